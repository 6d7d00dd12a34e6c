// Images between rows without gaps and pixel buffers, whose rows have any length.

import CBridge
import CoreVideo
import Foundation

#if canImport(Darwin)
/// Buffers that the GPU and the Neural Engine can read where they are.
private let bufferAttributes = [kCVPixelBufferIOSurfacePropertiesKey as String: [String: Any]()] as CFDictionary
#endif

private func makeBuffer(_ width: Int, _ height: Int, _ format: OSType, of name: String) throws -> CVPixelBuffer {
    var buffer: CVPixelBuffer?
    #if canImport(Darwin)
    let status = CVPixelBufferCreate(nil, width, height, format, bufferAttributes, &buffer)
    #else
    let status = CVPixelBufferCreate(nil, width, height, format, nil, &buffer)
    #endif
    guard status == kCVReturnSuccess, let buffer else {
        throw BridgeError.unsupported("no pixel buffer of \(width) x \(height) for `\(name)`: \(status)")
    }
    return buffer
}

/// The bytes of `format` per pixel and the channels of ours it holds; nil for a format this bridge does not know.
private func layout(_ format: OSType) -> (bytes: Int, pixels: Int32)? {
    switch format {
    case kCVPixelFormatType_32BGRA, kCVPixelFormatType_32ARGB: return (4, CMLB_PIXELS_RGB8)
    case kCVPixelFormatType_OneComponent8: return (1, CMLB_PIXELS_GRAY8)
    case kCVPixelFormatType_OneComponent16Half: return (2, CMLB_PIXELS_GRAY16F)
    default: return nil
    }
}

/// Where red, green, blue and alpha lie in a pixel of four bytes.
private func channels(_ format: OSType) -> (red: Int, green: Int, blue: Int, alpha: Int) {
    format == kCVPixelFormatType_32BGRA ? (2, 1, 0, 3) : (1, 2, 3, 0)
}

/// A pixel buffer in the model's format with the caller's pixels.
func pixelBuffer(_ value: cmlb_value, format: OSType, of name: String) throws -> CVPixelBuffer {
    guard let (bytes, pixels) = layout(format) else {
        throw BridgeError.unsupported("`\(name)` has the unknown pixel format \(format)")
    }
    guard pixels == value.type else {
        throw BridgeError.unsupported("`\(name)` takes pixels \(pixels), not \(value.type)")
    }
    let shape = try list(value.shape, value.rank, "the size of `\(name)`")
    let channelCount = pixels == CMLB_PIXELS_RGB8 ? 3 : 1
    let sourcePixel = pixels == CMLB_PIXELS_RGB8 ? 3 : bytes
    guard shape.count == 3, shape[0] > 0, shape[1] > 0, shape[2] == channelCount, let count = elementCount(shape),
        let data = value.data, value.byte_count == count * (sourcePixel / channelCount)
    else {
        throw BridgeError.invalidArgument("`\(name)` is no image of height x width x \(channelCount) with its bytes")
    }
    let (height, width) = (Int(shape[0]), Int(shape[1]))
    let buffer = try makeBuffer(width, height, format, of: name)
    let (rows, gap) = try lock(buffer, [], of: name)
    defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
    for y in 0..<height {
        let source = data + y * width * sourcePixel
        let row = rows + y * gap
        if pixels != CMLB_PIXELS_RGB8 {
            row.copyMemory(from: source, byteCount: width * bytes)
            continue
        }
        let (red, green, blue, alpha) = channels(format)
        let from = source.assumingMemoryBound(to: UInt8.self)
        let to = row.assumingMemoryBound(to: UInt8.self)
        for x in 0..<width {
            to[4 * x + red] = from[3 * x]
            to[4 * x + green] = from[3 * x + 1]
            to[4 * x + blue] = from[3 * x + 2]
            to[4 * x + alpha] = 255
        }
    }
    return buffer
}

private func lock(
    _ buffer: CVPixelBuffer, _ flags: CVPixelBufferLockFlags, of name: String
) throws -> (rows: UnsafeMutableRawPointer, gap: Int) {
    guard CVPixelBufferLockBaseAddress(buffer, flags) == kCVReturnSuccess else {
        throw BridgeError.unsupported("the pixels of `\(name)` cannot be locked")
    }
    guard let rows = CVPixelBufferGetBaseAddress(buffer) else {
        CVPixelBufferUnlockBaseAddress(buffer, flags)
        throw BridgeError.unsupported("the pixels of `\(name)` have no address")
    }
    return (rows, CVPixelBufferGetBytesPerRow(buffer))
}

/// The pixels of a buffer in rows without gaps.
func image(_ buffer: CVPixelBuffer, of name: String, in arena: Arena) throws -> cmlb_value {
    let format = CVPixelBufferGetPixelFormatType(buffer)
    guard let (bytes, pixels) = layout(format) else {
        throw BridgeError.unsupported("`\(name)` came in the unknown pixel format \(format)")
    }
    let (width, height) = (CVPixelBufferGetWidth(buffer), CVPixelBufferGetHeight(buffer))
    let (rows, gap) = try lock(buffer, .readOnly, of: name)
    defer { CVPixelBufferUnlockBaseAddress(buffer, .readOnly) }
    let targetPixel = pixels == CMLB_PIXELS_RGB8 ? 3 : bytes
    let data = arena.bytes(width * height * targetPixel)
    for y in 0..<height {
        let target = data + y * width * targetPixel
        let row = rows + y * gap
        if pixels != CMLB_PIXELS_RGB8 {
            target.copyMemory(from: row, byteCount: width * bytes)
            continue
        }
        let (red, green, blue, _) = channels(format)
        let from = row.assumingMemoryBound(to: UInt8.self)
        let to = target.assumingMemoryBound(to: UInt8.self)
        for x in 0..<width {
            to[3 * x] = from[4 * x + red]
            to[3 * x + 1] = from[4 * x + green]
            to[3 * x + 2] = from[4 * x + blue]
        }
    }
    var value = cmlb_value()
    value.kind = CMLB_KIND_IMAGE
    value.type = pixels
    value.data = data
    value.byte_count = width * height * targetPixel
    value.shape = arena.list([Int64(height), Int64(width), pixels == CMLB_PIXELS_RGB8 ? 3 : 1])
    value.rank = 3
    return value
}
