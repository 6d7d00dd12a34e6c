// States: what survives between the predictions of a model.

import CBridge
import CoreML
import Foundation

/// A state, from macOS 15 and iOS 18 on.
final class StateBox: Handle, @unchecked Sendable {
    static let tooOld = BridgeError.unavailable("models with states need macOS 15 or iOS 18")

    /// An MLState, whose type older systems do not have.
    private let object: AnyObject
    let turn = NSLock()

    init(_ object: AnyObject) {
        self.object = object
        super.init(CMLB_HANDLE_STATE)
    }

    @available(macOS 15.0, iOS 18.0, *)
    func state() throws -> MLState {
        guard let state = object as? MLState else { throw BridgeError.invalidArgument("the handle holds no state") }
        return state
    }
}

@_cdecl("cmlb_state_make")
public func cmlb_state_make(
    _ model: OpaquePointer?, _ state: UnsafeMutablePointer<OpaquePointer?>?, _ error: UnsafeMutablePointer<cmlb_error>?
) -> Int32 {
    exported(error) {
        let place = try place(state, "the state")
        place.pointee = nil
        let box = try Handle.of(model, as: ModelBox.self)
        guard #available(macOS 15.0, iOS 18.0, *) else { throw StateBox.tooOld }
        let made = try catchingExceptions { box.model.makeState() }
        place.pointee = OpaquePointer(StateBox(made).retainedPointer())
    }
}

@_cdecl("cmlb_state_release")
public func cmlb_state_release(_ state: OpaquePointer?) {
    Handle.release(UnsafeMutableRawPointer(state))
}
