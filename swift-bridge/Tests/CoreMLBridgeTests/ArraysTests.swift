// Copies out of every layout a multi-array may have.

import CoreML
import XCTest

@testable import CoreMLBridge

final class ArraysTests: XCTestCase {
    /// Copies an array of `sizes` with `strides` over 0, 1, 2, …, and compares with an element-wise walk.
    private func check(_ sizes: [Int], _ strides: [Int]) throws {
        var memory = (0..<4096).map { Int32($0) }
        var found = [Int32](repeating: -1, count: sizes.reduce(1, *))
        var expected: [Int32] = []
        func walk(_ axis: Int, _ offset: Int) {
            if axis == sizes.count {
                expected.append(Int32(offset))
                return
            }
            for i in 0..<sizes[axis] { walk(axis + 1, offset + i * strides[axis]) }
        }
        walk(0, 0)
        try memory.withUnsafeMutableBytes { memory in
            let array = try MLMultiArray(
                dataPointer: try XCTUnwrap(memory.baseAddress), shape: sizes.map { NSNumber(value: $0) }, dataType: .int32,
                strides: strides.map { NSNumber(value: $0) })
            try found.withUnsafeMutableBytes { found in
                try copyDense(array, to: try XCTUnwrap(found.baseAddress), elementSize: 4, of: "a")
            }
        }
        XCTAssertEqual(found, expected, "\(sizes) with strides \(strides)")
    }

    func testEveryLayoutIsCopiedAsAWalkWouldCopyIt() throws {
        try check([], [])
        try check([1], [7])
        try check([5], [1])
        try check([5], [3])
        try check([3, 5], [5, 1])
        try check([3, 5], [32, 1])
        try check([3, 5], [1, 3])
        try check([2, 3, 5], [96, 32, 1])
        try check([2, 1, 5], [5, 999, 1])
        try check([2, 3, 1], [3, 1, 999])
        try check([1, 3, 1, 5], [999, 5, 77, 1])
        try check([2, 3, 4, 5], [160, 40, 10, 2])
        try check([4, 3], [0, 1])
    }
}
