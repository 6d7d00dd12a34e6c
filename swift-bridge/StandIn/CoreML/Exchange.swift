// Feature values to the engine and back, and all that can be staged to go wrong with outputs.

import CBridge
import CStandIn
import CoreVideo
import Foundation

/// Calls `body` with the provider's values as plain C data.
func withValues<R>(
    of provider: any MLFeatureProvider, for description: MLModelDescription,
    _ body: (UnsafePointer<cmlb_value>?, Int) throws -> R
) throws -> R {
    var values: [cmlb_value] = []
    var memory: [UnsafeMutableRawPointer] = []
    defer { for block in memory { free(block) } }
    func keep<T>(_ elements: [T]) throws -> UnsafeMutablePointer<T> {
        guard let block = malloc(max(1, MemoryLayout<T>.stride * elements.count)) else {
            throw MLModelError(.generic, "out of memory")
        }
        memory.append(block)
        let place = block.bindMemory(to: T.self, capacity: max(1, elements.count))
        place.initialize(from: elements, count: elements.count)
        return place
    }
    func keep(_ text: String) throws -> UnsafePointer<CChar> { UnsafePointer(try keep(Array(text.utf8CString))) }

    for (name, expected) in description.inputDescriptionsByName {
        guard let feature = provider.featureValue(for: name) else {
            if expected.isOptional { continue }
            throw MLModelError(.generic, "Required input feature not passed to neural network: \(name)")
        }
        if feature.type != expected.type {
            let text = "the model expects input feature \(name) to be of type \(expected.type), it is of type \(feature.type.rawValue)."
            throw MLModelError(.featureType, text)
        }
        var value = cmlb_value()
        value.name = try keep(name)
        value.kind = Int32(feature.type.rawValue)
        switch feature.type {
        case .int64: value.int64_value = feature.int64Value
        case .double: value.double_value = feature.doubleValue
        case .string: value.text = try keep(feature.stringValue)
        case .multiArray:
            guard let array = feature.multiArrayValue else { continue }
            guard array.dataType == expected.multiArrayConstraint?.dataType else {
                throw MLModelError(.featureType, "\(name) has another data type than was declared")
            }
            value.type = Int32(array.dataType.rawValue)
            try array.withDenseBytes { bytes, count in
                value.byte_count = count
                if array.isDense {
                    value.data = bytes
                } else {
                    value.data = UnsafeMutableRawPointer(try keep(Array(UnsafeRawBufferPointer(start: bytes, count: count))))
                }
            }
            value.shape = UnsafePointer(try keep(array.shape.map(\.int64Value)))
            value.rank = array.shape.count
        case .image:
            guard let buffer = feature.imageBufferValue else { continue }
            let (pixels, bytes) = unpack(buffer)
            value.type = pixels
            value.data = UnsafeMutableRawPointer(try keep(bytes))
            value.byte_count = bytes.count
            value.shape = UnsafePointer(
                try keep([
                    Int64(CVPixelBufferGetHeight(buffer)), Int64(CVPixelBufferGetWidth(buffer)),
                    pixels == CMLB_PIXELS_RGB8 ? 3 : 1,
                ]))
            value.rank = 3
        case .dictionary:
            let entries = feature.dictionaryValue
            try setKeys(entries.keys.map(\.base), &value, keep: { try keep($0) }, keepNumbers: { try keep($0) }, keepTexts: { try keep($0) })
            value.values = UnsafePointer(try keep(entries.values.map(\.doubleValue)))
        case .sequence:
            guard let sequence = feature.sequenceValue else { continue }
            let elements: [Any] = sequence.type == .string ? sequence.stringValues : sequence.int64Values
            try setKeys(elements, &value, keep: { try keep($0) }, keepNumbers: { try keep($0) }, keepTexts: { try keep($0) })
            value.type = sequence.type == .string ? CMLB_KIND_STRING : CMLB_KIND_INT64
        default: throw MLModelError(.featureType, "\(name) is of no type")
        }
        values.append(value)
    }
    return try body(values.isEmpty ? nil : UnsafePointer(try keep(values)), values.count)
}

private func setKeys(
    _ elements: [Any], _ value: inout cmlb_value, keep: (String) throws -> UnsafePointer<CChar>,
    keepNumbers: ([Int64]) throws -> UnsafeMutablePointer<Int64>,
    keepTexts: ([UnsafePointer<CChar>?]) throws -> UnsafeMutablePointer<UnsafePointer<CChar>?>
) throws {
    value.count = elements.count
    if let texts = elements as? [String] {
        value.type = CMLB_KIND_STRING
        value.key_texts = UnsafePointer(try keepTexts(try texts.map { try keep($0) }))
    } else {
        value.type = CMLB_KIND_INT64
        value.key_numbers = UnsafePointer(try keepNumbers(elements.compactMap { ($0 as? NSNumber)?.int64Value }))
    }
}

/// The pixels of a buffer in rows without gaps.
private func unpack(_ buffer: CVPixelBuffer) -> (pixels: Int32, bytes: [UInt8]) {
    guard let base = CVPixelBufferGetBaseAddress(buffer) else { return (0, []) }
    let (width, height) = (CVPixelBufferGetWidth(buffer), CVPixelBufferGetHeight(buffer))
    let format = CVPixelBufferGetPixelFormatType(buffer)
    let row = CVPixelBufferGetBytesPerRow(buffer)
    let from = base.assumingMemoryBound(to: UInt8.self)
    switch format {
    case kCVPixelFormatType_OneComponent8:
        return (CMLB_PIXELS_GRAY8, (0..<height).flatMap { y in (0..<width).map { from[y * row + $0] } })
    case kCVPixelFormatType_OneComponent16Half:
        return (CMLB_PIXELS_GRAY16F, (0..<height).flatMap { y in (0..<2 * width).map { from[y * row + $0] } })
    default:
        let order = format == kCVPixelFormatType_32BGRA ? [2, 1, 0] : [1, 2, 3]
        var bytes = [UInt8]()
        bytes.reserveCapacity(width * height * 3)
        for y in 0..<height {
            for x in 0..<width { for channel in order { bytes.append(from[y * row + 4 * x + channel]) } }
        }
        return (CMLB_PIXELS_RGB8, bytes)
    }
}

/// The pixels in a buffer of the format.
private func pack(_ value: cmlb_value, _ format: OSType) throws -> CVPixelBuffer {
    let (height, width) = (Int(value.shape[0]), Int(value.shape[1]))
    var made: CVPixelBuffer?
    _ = CVPixelBufferCreate(nil, width, height, format, nil, &made)
    guard let made, let base = CVPixelBufferGetBaseAddress(made), let data = value.data else {
        throw MLModelError(.generic, "no pixel buffer")
    }
    let row = CVPixelBufferGetBytesPerRow(made)
    let order = format == kCVPixelFormatType_32BGRA ? [2, 1, 0] : [1, 2, 3]
    for y in 0..<height {
        if value.type != CMLB_PIXELS_RGB8 {
            let bytes = width * (value.type == CMLB_PIXELS_GRAY8 ? 1 : 2)
            (base + y * row).copyMemory(from: data + y * bytes, byteCount: bytes)
            continue
        }
        for x in 0..<width {
            for (channel, place) in order.enumerated() {
                let byte = data.load(fromByteOffset: (y * width + x) * 3 + channel, as: UInt8.self)
                (base + y * row).storeBytes(of: byte, toByteOffset: 4 * x + place, as: UInt8.self)
            }
        }
    }
    return made
}

/// What a prediction gave.
final class Results: NSObject, MLFeatureProvider {
    private var values: [String: MLFeatureValue] = [:]
    private let description_: MLModelDescription
    private let inputs: any MLFeatureProvider
    private let backings: [String: Any]
    private let faults: cmlb_standin_faults
    private(set) var failure: (any Error)?

    init(
        _ description: MLModelDescription, _ inputs: any MLFeatureProvider, _ backings: [String: Any],
        _ faults: cmlb_standin_faults
    ) {
        description_ = description
        self.inputs = inputs
        self.backings = backings
        self.faults = faults
    }

    var featureNames: Set<String> { Set(values.keys) }
    func featureValue(for featureName: String) -> MLFeatureValue? { values[featureName] }

    func take(_ value: cmlb_value) {
        if faults.missing_outputs == 1 { return }
        let name = String(cString: value.name)
        do {
            values[name] = try feature(value, name)
        } catch {
            failure = error
        }
    }

    private func feature(_ value: cmlb_value, _ name: String) throws -> MLFeatureValue {
        let type = MLFeatureType(rawValue: Int(value.kind)) ?? .invalid
        if faults.undefined_values == 1 { return MLFeatureValue(undefined: type) }
        let texts = (0..<value.count).compactMap { i in value.key_texts?[i].map { String(cString: $0) } }
        let numbers = (0..<value.count).compactMap { i in value.key_numbers.map { NSNumber(value: $0[i]) } }
        switch type {
        case .int64: return MLFeatureValue(int64: value.int64_value)
        case .double: return MLFeatureValue(double: value.double_value)
        case .string: return MLFeatureValue(string: String(cString: value.text))
        case .image:
            let format = description_.outputDescriptionsByName[name]?.imageConstraint?.pixelFormatType
            return MLFeatureValue(pixelBuffer: try pack(value, format ?? kCVPixelFormatType_32BGRA))
        case .dictionary:
            let keys = value.type == CMLB_KIND_STRING ? texts.map { AnyHashable($0) } : numbers.map { AnyHashable($0) }
            let values = (0..<value.count).map { NSNumber(value: value.values[$0]) }
            return try MLFeatureValue(dictionary: Dictionary(zip(keys, values), uniquingKeysWith: { $1 }))
        case .sequence:
            let sequence = value.type == CMLB_KIND_STRING ? MLSequence(strings: texts) : MLSequence(int64s: numbers)
            return MLFeatureValue(sequence: sequence)
        case .multiArray: return try array(value, name)
        default: throw MLModelError(.generic, "the engine gave \(name) as \(value.kind)")
        }
    }

    private func array(_ value: cmlb_value, _ name: String) throws -> MLFeatureValue {
        if faults.wrong_kinds == 1 { return MLFeatureValue(string: "surprise") }
        var sizes = (0..<value.rank).map { Int(value.shape[$0]) }
        if faults.wrong_shapes == 1 { sizes.insert(1, at: 0) }
        guard let engineType = MLMultiArrayDataType(rawValue: Int(value.type)), let given = value.data else {
            throw MLModelError(.generic, "the engine gave \(name) in the data type \(value.type)")
        }
        if faults.outputs_alias_inputs == 1, let same = input(equalTo: value) { return same }
        let declared = description_.outputDescriptionsByName[name]?.multiArrayConstraint?.dataType
        let halved = engineType == .float32 && (faults.half_outputs == 1 || declared == .float16)
        let type = halved ? MLMultiArrayDataType.float16 : engineType
        let count = sizes.reduce(1, *)
        if !halved && faults.wrong_values == 0 { return try made(name, sizes, type, given) }
        let changed = UnsafeMutableRawPointer.allocate(byteCount: count * MLMultiArray.size(type), alignment: 64)
        defer { changed.deallocate() }
        changed.initializeMemory(as: UInt8.self, repeating: 0, count: count * MLMultiArray.size(type))
        if halved && faults.wrong_values == 0 {
            let floats = given.assumingMemoryBound(to: Float.self)
            let halves = changed.assumingMemoryBound(to: Float16.self)
            for i in 0..<count { halves[i] = Float16(floats[i]) }
        }
        return try made(name, sizes, type, changed)
    }

    private func made(
        _ name: String, _ sizes: [Int], _ type: MLMultiArrayDataType, _ data: UnsafeRawPointer
    ) throws -> MLFeatureValue {
        if let backing = backings[name] {
            if faults.refused_backings == 1 {
                throw MLModelError(.generic, "Failure in -completeOutputBackings")
            }
            let fits = faults.ignored_backings == 0 && faults.half_outputs == 0 && faults.padded_rows == 0
            if fits, let array = backing as? MLMultiArray, array.dataType == type, array.shape.map(\.intValue) == sizes {
                array.fill(data)
                StandIn.shared.count(CMLB_STANDIN_BACKED)
                return MLFeatureValue(multiArray: array)
            }
        }
        if faults.unknown_types == 1 {
            return MLFeatureValue(multiArray: try MLMultiArray(shape: sizes.map { NSNumber(value: $0) }, dataType: .unheardOf))
        }
        let strides = faults.padded_rows == 1 ? MLMultiArray.padded(sizes) : MLMultiArray.dense(sizes)
        let array = MLMultiArray(sizes: sizes, type, strides: strides)
        array.fill(data)
        return MLFeatureValue(multiArray: array)
    }

    /// The input that has the same bytes in the same shape and type, as a pass-through gives.
    private func input(equalTo value: cmlb_value) -> MLFeatureValue? {
        let shape = (0..<value.rank).map { NSNumber(value: value.shape[$0]) }
        for name in inputs.featureNames {
            guard let feature = inputs.featureValue(for: name), let array = feature.multiArrayValue, array.isDense,
                array.shape == shape, let data = value.data, array.dataType.rawValue == Int(value.type)
            else { continue }
            let same = array.withUnsafeBytes { bytes in
                bytes.elementsEqual(UnsafeRawBufferPointer(start: data, count: value.byte_count))
            }
            if same { return feature }
        }
        return nil
    }
}
