// What differs between Apple's systems and the others: autorelease pools, exceptions and signposts exist on Apple's only.

import Foundation

#if canImport(os)
import os
#endif
#if canImport(CDarwin)
import CDarwin
#endif

#if !canImport(ObjectiveC)
/// There is no pool where there is no Objective-C.
@inline(__always)
func autoreleasepool<R>(invoking body: () throws -> R) rethrows -> R {
    try body()
}
#endif

/// Runs a call into Core ML, and turns an Objective-C exception into an error. Kept around single calls: an exception
/// passes through whatever Swift lies between it and this function without tidying up.
func catchingExceptions<T>(_ body: () throws -> T) throws -> T {
    #if canImport(CDarwin)
    var result: Result<T, any Error>?
    let exception = cmlb_darwin_try { result = Result(catching: body) }
    if let exception {
        throw BridgeError.exception(name: exception.name.rawValue, reason: exception.reason ?? "no reason given")
    }
    guard let result else { throw BridgeError.exception(name: "none", reason: "the call neither returned nor threw") }
    return try result.get()
    #else
    return try body()
    #endif
}

#if canImport(os)
private let signposter = OSSignposter(subsystem: "coreml-anywhere", category: "bridge")
#endif

/// Shows `body` as an interval of this name in Instruments.
@inline(__always)
func interval<T>(_ name: StaticString, _ body: () throws -> T) rethrows -> T {
    #if canImport(os)
    let state = signposter.beginInterval(name)
    defer { signposter.endInterval(name, state) }
    #endif
    return try body()
}
