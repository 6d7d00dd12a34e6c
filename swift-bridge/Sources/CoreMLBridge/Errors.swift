// Errors on their way out: every exported call ends in a status, and in a filled cmlb_error where it is not CMLB_OK.

import CBridge
import Foundation

/// What goes wrong in the bridge itself.
enum BridgeError: Error {
    case invalidArgument(String)
    case unavailable(String)
    case unsupported(String)
    case timeout(String)
    case busy(String)
    case exception(name: String, reason: String)
}

/// Runs the body of an exported call: in an autorelease pool, since Rust's threads have none that drains, and with every
/// error turned into a status.
func exported(_ error: UnsafeMutablePointer<cmlb_error>?, _ body: () throws -> Void) -> Int32 {
    autoreleasepool {
        do {
            try body()
            return CMLB_OK
        } catch let failure {
            return report(failure, to: error)
        }
    }
}

private func report(_ failure: any Error, to error: UnsafeMutablePointer<cmlb_error>?) -> Int32 {
    guard let bridge = failure as? BridgeError else {
        let system = failure as NSError
        fill(error, domain: system.domain, code: system.code, message: system.localizedDescription)
        if let error, let underlying = system.userInfo[NSUnderlyingErrorKey] as? NSError {
            error.pointee.underlying_code = Int64(underlying.code)
            error.pointee.underlying_domain = strdup(underlying.domain)
            error.pointee.underlying_message = strdup(underlying.localizedDescription)
        }
        return CMLB_ERROR
    }
    let own = "coreml-anywhere"
    switch bridge {
    case .invalidArgument(let message):
        fill(error, domain: own, code: 0, message: message)
        return CMLB_INVALID_ARGUMENT
    case .unavailable(let message):
        fill(error, domain: own, code: 0, message: message)
        return CMLB_UNAVAILABLE
    case .unsupported(let message):
        fill(error, domain: own, code: 0, message: message)
        return CMLB_UNSUPPORTED
    case .timeout(let message):
        fill(error, domain: own, code: 0, message: message)
        return CMLB_TIMEOUT
    case .busy(let message):
        fill(error, domain: own, code: 0, message: message)
        return CMLB_BUSY
    case .exception(let name, let reason):
        fill(error, domain: name, code: 0, message: reason)
        return CMLB_EXCEPTION
    }
}

private func fill(_ error: UnsafeMutablePointer<cmlb_error>?, domain: String, code: Int, message: String) {
    guard let error else { return }
    clear(error)
    error.pointee.domain = strdup(domain)
    error.pointee.code = Int64(code)
    error.pointee.message = strdup(message)
}

private func clear(_ error: UnsafeMutablePointer<cmlb_error>) {
    for text in [
        error.pointee.domain, error.pointee.message, error.pointee.underlying_domain, error.pointee.underlying_message,
    ] {
        free(text)
    }
    error.pointee = cmlb_error()
}

@_cdecl("cmlb_error_clear")
public func cmlb_error_clear(_ error: UnsafeMutablePointer<cmlb_error>?) {
    if let error { clear(error) }
}

@_cdecl("cmlb_text_release")
public func cmlb_text_release(_ text: UnsafeMutablePointer<CChar>?) {
    free(text)
}
