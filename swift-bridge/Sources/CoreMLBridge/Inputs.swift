// The caller's values as Core ML's features.

import CBridge
import CoreML
import CoreVideo
import Foundation

/// What one prediction is given, by name.
final class Features: NSObject, MLFeatureProvider {
    private let values: [String: MLFeatureValue]

    init(_ values: [String: MLFeatureValue]) {
        self.values = values
    }

    var featureNames: Set<String> {
        Set(values.keys)
    }

    func featureValue(for featureName: String) -> MLFeatureValue? {
        values[featureName]
    }
}

/// The caller's inputs; those of kind NONE are left out.
func features(_ inputs: UnsafePointer<cmlb_value>?, _ count: Int, for model: ModelBox) throws -> Features {
    var values = [String: MLFeatureValue](minimumCapacity: count)
    for input in try list(inputs, count, "the inputs") where input.kind != CMLB_KIND_NONE {
        let name = try text(input.name, "the name of an input")
        values[name] = try featureValue(input, of: name, for: model)
    }
    return Features(values)
}

private func featureValue(_ value: cmlb_value, of name: String, for model: ModelBox) throws -> MLFeatureValue {
    switch value.kind {
    case CMLB_KIND_INT64:
        return MLFeatureValue(int64: value.int64_value)
    case CMLB_KIND_DOUBLE:
        return MLFeatureValue(double: value.double_value)
    case CMLB_KIND_STRING:
        return MLFeatureValue(string: try text(value.text, "the text of `\(name)`"))
    case CMLB_KIND_ARRAY:
        let shape = try list(value.shape, value.rank, "the shape of `\(name)`")
        let array = try multiArray(
            over: value.data, byteCount: value.byte_count, type: value.type, shape: shape, strides: value.strides, of: name)
        return MLFeatureValue(multiArray: array)
    case CMLB_KIND_IMAGE:
        guard let format = model.pixelFormats[name] else {
            throw BridgeError.unsupported("the model takes no image `\(name)`")
        }
        return MLFeatureValue(pixelBuffer: try pixelBuffer(value, format: format, of: name))
    case CMLB_KIND_DICTIONARY:
        let numbers = try list(value.values, value.count, "the values of `\(name)`")
        var entries = [AnyHashable: NSNumber](minimumCapacity: value.count)
        for (key, number) in zip(try keys(value, of: name), numbers) {
            entries[key] = NSNumber(value: number)
        }
        return try catchingExceptions { try MLFeatureValue(dictionary: entries) }
    case CMLB_KIND_SEQUENCE:
        let keys = try keys(value, of: name)
        if value.type == CMLB_KIND_STRING {
            return MLFeatureValue(sequence: MLSequence(strings: keys.compactMap { $0.base as? String }))
        }
        return MLFeatureValue(sequence: MLSequence(int64s: keys.compactMap { $0.base as? NSNumber }))
    default:
        throw BridgeError.unsupported("`\(name)` is of the unknown kind \(value.kind)")
    }
}

/// The keys of a dictionary or the elements of a sequence: String or NSNumber.
private func keys(_ value: cmlb_value, of name: String) throws -> [AnyHashable] {
    switch value.type {
    case CMLB_KIND_STRING:
        return try list(value.key_texts, value.count, "the keys of `\(name)`").map {
            AnyHashable(try text($0, "a key of `\(name)`"))
        }
    case CMLB_KIND_INT64:
        return try list(value.key_numbers, value.count, "the keys of `\(name)`").map {
            AnyHashable(NSNumber(value: $0))
        }
    default:
        throw BridgeError.unsupported("`\(name)` has keys of the unknown kind \(value.type)")
    }
}
