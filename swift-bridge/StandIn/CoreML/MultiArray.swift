// Multi-arrays.

import Foundation

public enum MLMultiArrayDataType: Int, @unchecked Sendable {
    case double = 0x10040
    case float32 = 0x10020
    case float16 = 0x10010
    case int32 = 0x20020
    case int8 = 0x20008
    /// Stands for whatever a newer system may invent.
    case unheardOf = 0x30080
}

open class MLMultiArray: NSObject {
    public let dataType: MLMultiArrayDataType
    public let shape: [NSNumber]
    public let strides: [NSNumber]
    private let base: UnsafeMutableRawPointer
    private let free: ((UnsafeMutableRawPointer) -> Void)?

    public var count: Int { shape.reduce(1) { $0 * $1.intValue } }

    public convenience init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws {
        let sizes = shape.map(\.intValue)
        self.init(sizes: sizes, dataType, strides: Self.dense(sizes))
    }

    public init(
        dataPointer: UnsafeMutableRawPointer, shape: [NSNumber], dataType: MLMultiArrayDataType, strides: [NSNumber],
        deallocator: ((UnsafeMutableRawPointer) -> Void)? = nil
    ) throws {
        guard shape.count == strides.count else { throw MLModelError(.generic, "as many strides as sizes") }
        base = dataPointer
        self.shape = shape
        self.strides = strides
        self.dataType = dataType
        free = deallocator
    }

    /// Memory of its own, filled with a pattern: Core ML does not initialise it either.
    init(sizes: [Int], _ dataType: MLMultiArrayDataType, strides: [Int]) {
        shape = sizes.map { NSNumber(value: $0) }
        self.strides = strides.map { NSNumber(value: $0) }
        self.dataType = dataType
        let bytes = max(1, Self.span(sizes, strides) * Self.size(dataType))
        base = .allocate(byteCount: bytes, alignment: 64)
        base.initializeMemory(as: UInt8.self, repeating: 0xCD, count: bytes)
        free = { $0.deallocate() }
    }

    deinit {
        free?(base)
    }

    public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try body(UnsafeRawBufferPointer(start: base, count: byteCount))
    }

    public func withUnsafeMutableBytes<R>(
        _ body: (UnsafeMutableRawBufferPointer, _ strides: [Int]) throws -> R
    ) rethrows -> R {
        try body(UnsafeMutableRawBufferPointer(start: base, count: byteCount), strides.map(\.intValue))
    }

    private var byteCount: Int {
        Self.span(shape.map(\.intValue), strides.map(\.intValue)) * Self.size(dataType)
    }

    static func size(_ type: MLMultiArrayDataType) -> Int { (type.rawValue & 0xFFFF) / 8 }

    static func dense(_ sizes: [Int]) -> [Int] {
        var strides = [Int](repeating: 1, count: sizes.count)
        for i in sizes.indices.dropLast().reversed() { strides[i] = strides[i + 1] * sizes[i + 1] }
        return strides
    }

    /// Strides with the innermost rows padded to 32 elements, and one row of 32 more, so that a padding always exists.
    static func padded(_ sizes: [Int]) -> [Int] {
        guard let inner = sizes.last, sizes.count > 1 else { return dense(sizes) }
        var rows = Array(sizes)
        rows[rows.count - 1] = (inner / 32 + 1) * 32
        return dense(rows)
    }

    private static func span(_ sizes: [Int], _ strides: [Int]) -> Int {
        sizes.contains(0) ? 0 : zip(sizes, strides).reduce(1) { $0 + ($1.0 - 1) * $1.1 }
    }

    /// Whether the elements lie dense in row-major order.
    var isDense: Bool {
        zip(zip(shape, strides), Self.dense(shape.map(\.intValue))).allSatisfy { pair, dense in
            pair.0.intValue == 1 || pair.1.intValue == dense
        }
    }

    /// Calls `body` with each element's offset, in row-major order.
    func forEachOffset(_ body: (Int) -> Void) {
        let sizes = shape.map(\.intValue)
        let strides = strides.map(\.intValue)
        for position in 0..<count {
            var (rest, offset) = (position, 0)
            for axis in sizes.indices.reversed() {
                offset += (rest % sizes[axis]) * strides[axis]
                rest /= sizes[axis]
            }
            body(offset)
        }
    }

    /// The elements, dense, for the length of `body`.
    func withDenseBytes<R>(_ body: (UnsafeMutableRawPointer, Int) throws -> R) rethrows -> R {
        let size = Self.size(dataType)
        if isDense { return try body(base, count * size) }
        let copy = UnsafeMutableRawPointer.allocate(byteCount: max(1, count * size), alignment: 64)
        defer { copy.deallocate() }
        var written = 0
        forEachOffset { offset in
            (copy + written).copyMemory(from: base + offset * size, byteCount: size)
            written += size
        }
        return try body(copy, count * size)
    }

    /// Takes dense elements of its own data type.
    func fill(_ source: UnsafeRawPointer) {
        let size = Self.size(dataType)
        if isDense {
            base.copyMemory(from: source, byteCount: count * size)
            return
        }
        var read = 0
        forEachOffset { offset in
            (base + offset * size).copyMemory(from: source + read, byteCount: size)
            read += size
        }
    }
}
