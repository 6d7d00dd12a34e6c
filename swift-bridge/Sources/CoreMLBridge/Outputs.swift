// Core ML's features as plain C data.
//
// Nothing here refers to Core ML's memory once the call is over: an output may lie in an input's memory, or in a pool's.

import CBridge
import CoreML
import CoreVideo
import Foundation

/// The values of one prediction.
final class PredictionBox: Handle, @unchecked Sendable {
    let arena: Arena
    let values: UnsafePointer<cmlb_value>?
    let count: Int

    init(_ values: [cmlb_value], _ arena: Arena) {
        self.arena = arena
        self.values = arena.list(values)
        count = values.count
        super.init(CMLB_HANDLE_PREDICTION)
    }
}

@_cdecl("cmlb_prediction_values")
public func cmlb_prediction_values(
    _ prediction: OpaquePointer?, _ count: UnsafeMutablePointer<Int>?
) -> UnsafePointer<cmlb_value>? {
    count?.pointee = 0
    guard let box = try? Handle.of(prediction, as: PredictionBox.self) else { return nil }
    count?.pointee = box.count
    return box.values
}

@_cdecl("cmlb_prediction_release")
public func cmlb_prediction_release(_ prediction: OpaquePointer?) {
    Handle.release(UnsafeMutableRawPointer(prediction))
}

/// The outputs of these names as values in one handle; nil for none.
func prediction(_ provider: any MLFeatureProvider, _ names: some Collection<String>) throws -> PredictionBox? {
    if names.isEmpty { return nil }
    let arena = Arena()
    let values = try names.sorted().compactMap { name in
        try provider.featureValue(for: name).map { try value($0, of: name, in: arena) }
    }
    return PredictionBox(values, arena)
}

private func value(_ feature: MLFeatureValue, of name: String, in arena: Arena) throws -> cmlb_value {
    var made = cmlb_value()
    if feature.isUndefined {
        made.name = arena.text(name)
        return made
    }
    switch feature.type {
    case .int64:
        made.kind = CMLB_KIND_INT64
        made.int64_value = feature.int64Value
    case .double:
        made.kind = CMLB_KIND_DOUBLE
        made.double_value = feature.doubleValue
    case .string:
        made.kind = CMLB_KIND_STRING
        made.text = arena.text(feature.stringValue)
    case .multiArray:
        guard let array = feature.multiArrayValue else { throw BridgeError.unsupported("`\(name)` has no array") }
        made = try dense(array, of: name, in: arena)
    case .image:
        guard let buffer = feature.imageBufferValue else { throw BridgeError.unsupported("`\(name)` has no pixels") }
        made = try image(buffer, of: name, in: arena)
    case .dictionary:
        made = try dictionary(feature.dictionaryValue, of: name, in: arena)
    case .sequence:
        guard let sequence = feature.sequenceValue else { throw BridgeError.unsupported("`\(name)` has no elements") }
        made.kind = CMLB_KIND_SEQUENCE
        made.type = sequence.type == .string ? CMLB_KIND_STRING : CMLB_KIND_INT64
        made.key_texts = arena.texts(sequence.stringValues)
        made.key_numbers = arena.list(sequence.int64Values.map(\.int64Value))
        made.count = max(sequence.stringValues.count, sequence.int64Values.count)
    default:
        throw BridgeError.unsupported("`\(name)` came as the unknown kind \(feature.type.rawValue)")
    }
    made.name = arena.text(name)
    return made
}

private func dense(_ array: MLMultiArray, of name: String, in arena: Arena) throws -> cmlb_value {
    let shape = array.shape.map(\.int64Value)
    let count = shape.withUnsafeBufferPointer(elementCount)
    guard let size = elementSize(array.dataType.rawValue) else {
        throw BridgeError.unsupported("`\(name)` came in the unknown data type \(array.dataType.rawValue)")
    }
    guard let count else { throw BridgeError.unsupported("`\(name)` came in the shape \(shape)") }
    var made = cmlb_value()
    made.kind = CMLB_KIND_ARRAY
    made.type = Int32(truncatingIfNeeded: array.dataType.rawValue)
    let data = arena.bytes(count * size)
    try copyDense(array, to: data, elementSize: size, of: name)
    made.data = data
    made.byte_count = count * size
    made.shape = arena.list(shape)
    made.rank = shape.count
    return made
}

private func dictionary(_ entries: [AnyHashable: NSNumber], of name: String, in arena: Arena) throws -> cmlb_value {
    var made = cmlb_value()
    made.kind = CMLB_KIND_DICTIONARY
    made.count = entries.count
    var texts: [String] = []
    var numbers: [Int64] = []
    var values: [Double] = []
    for (key, value) in entries {
        if let text = key.base as? String {
            texts.append(text)
        } else if let number = key.base as? NSNumber {
            numbers.append(number.int64Value)
        } else if let number = key.base as? Int64 {
            numbers.append(number)
        } else {
            throw BridgeError.unsupported("`\(name)` has keys that are neither texts nor integers")
        }
        values.append(value.doubleValue)
    }
    guard texts.isEmpty || numbers.isEmpty else {
        throw BridgeError.unsupported("`\(name)` has texts and integers as keys")
    }
    made.type = numbers.isEmpty ? CMLB_KIND_STRING : CMLB_KIND_INT64
    made.key_texts = arena.texts(texts)
    made.key_numbers = arena.list(numbers)
    made.values = arena.list(values)
    return made
}
