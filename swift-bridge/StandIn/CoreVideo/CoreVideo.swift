// The part of Core Video that the bridge uses: pixel buffers, whose rows are padded to 64 bytes as on real devices.

import Foundation

public typealias OSType = UInt32
public typealias CVReturn = Int32
public typealias CVPixelBuffer = CVBuffer

public let kCVReturnSuccess: CVReturn = 0
public let kCVReturnInvalidArgument: CVReturn = -6661
public let kCVPixelFormatType_32BGRA: OSType = 0x4247_5241
public let kCVPixelFormatType_32ARGB: OSType = 0x0000_0020
public let kCVPixelFormatType_OneComponent8: OSType = 0x4C30_3038
public let kCVPixelFormatType_OneComponent16Half: OSType = 0x4C30_3068

public final class CVBuffer {
    let width: Int
    let height: Int
    let format: OSType
    let bytesPerRow: Int
    let base: UnsafeMutableRawPointer

    init(_ width: Int, _ height: Int, _ format: OSType, _ bytesPerPixel: Int) {
        self.width = width
        self.height = height
        self.format = format
        // At least one byte of padding, so that code which forgets it is found out.
        bytesPerRow = (width * bytesPerPixel / 64 + 1) * 64
        base = .allocate(byteCount: bytesPerRow * height, alignment: 64)
        base.initializeMemory(as: UInt8.self, repeating: 0xCD, count: bytesPerRow * height)
    }

    deinit {
        base.deallocate()
    }
}

public struct CVPixelBufferLockFlags: OptionSet, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static let readOnly = CVPixelBufferLockFlags(rawValue: 1)
}

public func CVPixelBufferCreate(
    _ allocator: AnyObject?, _ width: Int, _ height: Int, _ format: OSType, _ attributes: AnyObject?,
    _ out: UnsafeMutablePointer<CVPixelBuffer?>
) -> CVReturn {
    let sizes: [OSType: Int] = [
        kCVPixelFormatType_32BGRA: 4, kCVPixelFormatType_32ARGB: 4, kCVPixelFormatType_OneComponent8: 1,
        kCVPixelFormatType_OneComponent16Half: 2,
    ]
    guard let size = sizes[format], width > 0, height > 0 else { return kCVReturnInvalidArgument }
    out.pointee = CVBuffer(width, height, format, size)
    return kCVReturnSuccess
}

public func CVPixelBufferGetWidth(_ buffer: CVPixelBuffer) -> Int { buffer.width }
public func CVPixelBufferGetHeight(_ buffer: CVPixelBuffer) -> Int { buffer.height }
public func CVPixelBufferGetBytesPerRow(_ buffer: CVPixelBuffer) -> Int { buffer.bytesPerRow }
public func CVPixelBufferGetPixelFormatType(_ buffer: CVPixelBuffer) -> OSType { buffer.format }
public func CVPixelBufferGetBaseAddress(_ buffer: CVPixelBuffer) -> UnsafeMutableRawPointer? { buffer.base }

@discardableResult
public func CVPixelBufferLockBaseAddress(_ buffer: CVPixelBuffer, _ flags: CVPixelBufferLockFlags) -> CVReturn {
    kCVReturnSuccess
}

@discardableResult
public func CVPixelBufferUnlockBaseAddress(_ buffer: CVPixelBuffer, _ flags: CVPixelBufferLockFlags) -> CVReturn {
    kCVReturnSuccess
}
