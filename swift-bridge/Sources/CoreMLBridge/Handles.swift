// Handles: objects that Rust holds by an opaque pointer with one reference of its own. Calls in progress hold another, so
// that a handle can be released while one of its calls never returns.

import CBridge
import Foundation

/// How many handles of each kind are alive.
private final class Counts: @unchecked Sendable {
    static let shared = Counts()
    private let lock = NSLock()
    private var alive = [Int64](repeating: 0, count: Int(CMLB_HANDLE_KINDS))

    func add(_ kind: Int32, _ change: Int64) {
        lock.lock()
        alive[Int(kind)] += change
        lock.unlock()
    }

    func alive(_ kind: Int32) -> Int64 {
        lock.lock()
        defer { lock.unlock() }
        return alive.indices.contains(Int(kind)) ? alive[Int(kind)] : -1
    }
}

/// The base of all handles: counts the living.
class Handle: @unchecked Sendable {
    private let kind: Int32

    init(_ kind: Int32) {
        self.kind = kind
        Counts.shared.add(kind, 1)
    }

    deinit {
        Counts.shared.add(kind, -1)
    }

    /// A reference that the caller will give back to `release`.
    func retainedPointer() -> UnsafeMutableRawPointer {
        Unmanaged.passRetained(self).toOpaque()
    }

    static func release(_ pointer: UnsafeMutableRawPointer?) {
        guard let pointer else { return }
        autoreleasepool { Unmanaged<Handle>.fromOpaque(pointer).release() }
    }

    /// The object behind a handle of the caller's.
    static func of<T: Handle>(_ pointer: OpaquePointer?, as type: T.Type) throws -> T {
        guard let pointer else { throw BridgeError.invalidArgument("the handle is NULL") }
        let handle = Unmanaged<Handle>.fromOpaque(UnsafeRawPointer(pointer)).takeUnretainedValue()
        guard let found = handle as? T else { throw BridgeError.invalidArgument("the handle is of another kind") }
        return found
    }
}

@_cdecl("cmlb_handle_count")
public func cmlb_handle_count(_ kind: Int32) -> Int64 {
    Counts.shared.alive(kind)
}

@_cdecl("cmlb_bridge_version")
public func cmlb_bridge_version() -> UInt32 {
    UInt32(CMLB_ABI_VERSION)
}

/// A text that the caller gave.
func text(_ pointer: UnsafePointer<CChar>?, _ what: String) throws -> String {
    guard let pointer else { throw BridgeError.invalidArgument("\(what) is NULL") }
    return String(cString: pointer)
}

/// Where the caller wants a result.
func place<T>(_ pointer: UnsafeMutablePointer<T>?, _ what: String) throws -> UnsafeMutablePointer<T> {
    guard let pointer else { throw BridgeError.invalidArgument("there is no place for \(what)") }
    return pointer
}

/// An array that the caller gave; NULL is fine where it is empty.
func list<T>(_ pointer: UnsafePointer<T>?, _ count: Int, _ what: String) throws -> UnsafeBufferPointer<T> {
    guard count >= 0, pointer != nil || count == 0 else {
        throw BridgeError.invalidArgument("\(what) is NULL, with a count of \(count)")
    }
    return UnsafeBufferPointer(start: pointer, count: count)
}
