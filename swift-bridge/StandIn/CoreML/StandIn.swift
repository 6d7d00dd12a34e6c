// The controls of the stand-in: which engine computes, what goes wrong, what is counted.

import CBridge
import CStandIn
import Foundation

/// What tests set and see. One for the process.
public final class StandIn: @unchecked Sendable {
    static let shared = StandIn()
    private let lock = NSLock()
    private var installed: cmlb_standin_engine?
    private var staged = cmlb_standin_faults()
    private var counts = [Int64](repeating: 0, count: Int(CMLB_STANDIN_COUNTS))

    /// What the ledger of the Neural Engine is staged to say.
    public static var neuralBytes: Int64? {
        let staged = shared.faults.neural_bytes
        return staged == 0 ? nil : staged
    }

    var engine: cmlb_standin_engine? {
        get { locked { installed } }
        set { locked { installed = newValue } }
    }

    var faults: cmlb_standin_faults {
        get { locked { staged } }
        set { locked { staged = newValue } }
    }

    func count(_ what: Int32, _ change: Int64 = 1) {
        locked { counts[Int(what)] += change }
    }

    func observe(_ what: Int32) -> Int64 {
        locked { counts.indices.contains(Int(what)) ? counts[Int(what)] : -1 }
    }

    /// The error staged by this number, if one is.
    func failure(_ staged: Int32, _ what: String) -> (any Error)? {
        if staged == 0 { return nil }
        let faults = faults
        var information: [String: Any] = [NSLocalizedDescriptionKey: "\(what) was staged to fail"]
        if faults.underlying_errors == 1 {
            let text = "ANE model load has failed for on-device compiled macho. Must re-compile the E5 bundle."
            information[NSUnderlyingErrorKey] = NSError(
                domain: "com.apple.appleneuralengine", code: 13, userInfo: [NSLocalizedDescriptionKey: text])
        }
        let domain = faults.foreign_errors == 1 ? NSCocoaErrorDomain : MLModelErrorDomain
        return NSError(domain: domain, code: Int(staged) - 1, userInfo: information)
    }

    private func locked<T>(_ body: () -> T) -> T {
        lock.lock()
        defer { lock.unlock() }
        return body()
    }
}

/// Sleeps, where that is staged.
func pause(_ seconds: Double) {
    if seconds > 0 { Thread.sleep(forTimeInterval: seconds) }
}

@_cdecl("cmlb_standin_install")
public func cmlb_standin_install(_ engine: UnsafePointer<cmlb_standin_engine>?) {
    StandIn.shared.engine = engine?.pointee
}

@_cdecl("cmlb_standin_stage")
public func cmlb_standin_stage(_ faults: UnsafePointer<cmlb_standin_faults>?) {
    StandIn.shared.faults = faults?.pointee ?? cmlb_standin_faults()
}

@_cdecl("cmlb_standin_observe")
public func cmlb_standin_observe(_ what: Int32) -> Int64 {
    StandIn.shared.observe(what)
}
