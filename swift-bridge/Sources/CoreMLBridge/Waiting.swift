// Asynchronous calls awaited from plain threads, with a deadline.
//
// Never call these from a thread that runs Swift tasks: they block, and would take from the pool the thread that the answer
// needs. Rust's threads are plain ones.

import Dispatch
import Foundation

/// Carries what is not Sendable to the one task that uses it.
struct Carried<T>: @unchecked Sendable {
    let value: T
}

/// The answer of an asynchronous call. If nobody waits any more when it comes, it is cleared away.
final class Answer<T>: @unchecked Sendable {
    private let lock = NSLock()
    private let given = DispatchSemaphore(value: 0)
    private var result: Result<T, any Error>?
    private var abandoned = false
    private let clear: (T) -> Void

    init(clearing clear: @escaping (T) -> Void = { _ in }) {
        self.clear = clear
    }

    func give(_ answer: Result<T, any Error>) {
        lock.lock()
        result = answer
        let late = abandoned
        lock.unlock()
        if late {
            if case .success(let value) = answer { clear(value) }
        } else {
            given.signal()
        }
    }

    /// Waits at most this long; 0 is for ever.
    func wait(_ seconds: Double, for what: String) throws -> T {
        if seconds > 0 {
            // Beyond a century the arithmetic of deadlines would overflow.
            if given.wait(timeout: .now() + min(seconds, 3e9)) == .timedOut {
                lock.lock()
                defer { lock.unlock() }
                guard let result else {
                    abandoned = true
                    throw BridgeError.timeout("\(what) took longer than \(seconds) s")
                }
                return try result.get()
            }
        } else {
            given.wait()
        }
        lock.lock()
        defer { lock.unlock() }
        guard let result else { throw BridgeError.timeout("\(what) gave no answer") }
        return try result.get()
    }
}
