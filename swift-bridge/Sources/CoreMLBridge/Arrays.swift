// Multi-arrays between the caller's dense memory and whatever layout Core ML chose.

import CBridge
import CoreML
import Foundation

/// Bytes of an element; nil for a data type this bridge does not know. Its values are compared by number: `int8` has a name
/// in the newest systems' headers only, and imported enumerations hold any number.
func elementSize(_ type: Int) -> Int? {
    switch Int32(truncatingIfNeeded: type) {
    case CMLB_TYPE_DOUBLE: return 8
    case CMLB_TYPE_FLOAT32, CMLB_TYPE_INT32: return 4
    case CMLB_TYPE_FLOAT16: return 2
    case CMLB_TYPE_INT8: return 1
    default: return nil
    }
}

/// Elements of a shape, or nil if it has a negative size or too many elements for bytes to be counted.
func elementCount(_ shape: UnsafeBufferPointer<Int64>) -> Int? {
    var count = 1
    for size in shape {
        let (product, overflow) = count.multipliedReportingOverflow(by: Int(size))
        if size < 0 || overflow || product > Int.max / 16 { return nil }
        count = product
    }
    return count
}

/// The strides of a dense row-major array.
private func denseStrides(_ shape: UnsafeBufferPointer<Int64>) -> [NSNumber] {
    var strides = [NSNumber](repeating: 1, count: shape.count)
    var stride = 1
    for i in shape.indices.reversed() {
        strides[i] = NSNumber(value: stride)
        stride *= max(Int(shape[i]), 1)
    }
    return strides
}

/// A multi-array over memory of the caller's, without a copy. Everything Core ML would answer with an exception is checked.
func multiArray(
    over data: UnsafeMutableRawPointer?, byteCount: Int, type: Int32, shape: UnsafeBufferPointer<Int64>,
    strides: UnsafePointer<Int64>?, of name: String
) throws -> MLMultiArray {
    guard let size = elementSize(Int(type)), let dataType = MLMultiArrayDataType(rawValue: Int(type)) else {
        throw BridgeError.unsupported("`\(name)` has the unknown data type \(type)")
    }
    guard let data, let count = elementCount(shape), count > 0 else {
        throw BridgeError.invalidArgument("`\(name)` has no memory, or no elements")
    }
    var last = count - 1
    var inElements = denseStrides(shape)
    if let strides {
        last = 0
        for i in shape.indices {
            let (reach, overflow) = (Int(shape[i]) - 1).multipliedReportingOverflow(by: Int(strides[i]))
            let (sum, overflowed) = last.addingReportingOverflow(reach)
            guard strides[i] >= 0, !overflow, !overflowed else {
                throw BridgeError.invalidArgument("`\(name)` has a negative or overflowing stride")
            }
            last = sum
            inElements[i] = NSNumber(value: strides[i])
        }
    }
    guard last < byteCount / size else {
        throw BridgeError.invalidArgument("`\(name)` is larger than its memory of \(byteCount) bytes")
    }
    let sizes = shape.map { NSNumber(value: $0) }
    return try catchingExceptions {
        try MLMultiArray(dataPointer: data, shape: sizes, dataType: dataType, strides: inElements, deallocator: nil)
    }
}

/// Copies an array's elements, whatever its strides, to dense row-major memory of `count` elements.
func copyDense(_ array: MLMultiArray, to target: UnsafeMutableRawPointer, elementSize size: Int, of name: String) throws {
    let shape = array.shape.map(\.intValue)
    let strides = array.strides.map(\.intValue)
    guard shape.count == strides.count, strides.allSatisfy({ $0 >= 0 }) else {
        throw BridgeError.unsupported("`\(name)` has strides \(strides) for the shape \(shape)")
    }
    if shape.contains(0) { return }
    let reach = zip(shape, strides).reduce(1) { $0 + ($1.0 - 1) * $1.1 }
    // The closure throws nothing: with one that might, and that returned from its middle, optimised builds of Swift 6.0.3
    // reported an error that nobody had thrown.
    let available = array.withUnsafeBytes { bytes -> Int in
        if let base = bytes.baseAddress, bytes.count / size >= reach {
            copyPieces(from: base, shape, strides, to: target, elementSize: size)
        }
        return bytes.count
    }
    guard available / size >= reach else {
        throw BridgeError.unsupported("`\(name)` has \(available) bytes, its strides reach beyond them")
    }
}

/// Copies piece by piece: the innermost elements that lie together, for each index of the axes outside them.
private func copyPieces(
    from base: UnsafeRawPointer, _ shape: [Int], _ strides: [Int], to target: UnsafeMutableRawPointer, elementSize size: Int
) {
    // Sizes of 1 may have any stride.
    var outer = shape.count
    var piece = 1
    while outer > 0, shape[outer - 1] == 1 || strides[outer - 1] == piece {
        piece *= shape[outer - 1]
        outer -= 1
    }
    let pieces = shape[..<outer].reduce(1, *)
    var index = [Int](repeating: 0, count: outer)
    var source = 0
    for written in 0..<pieces {
        (target + written * piece * size).copyMemory(from: base + source * size, byteCount: piece * size)
        for axis in (0..<outer).reversed() {
            index[axis] += 1
            source += strides[axis]
            if index[axis] < shape[axis] { break }
            source -= strides[axis] * shape[axis]
            index[axis] = 0
        }
    }
}
