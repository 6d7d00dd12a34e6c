// Feature values and providers.

import CoreVideo
import Foundation

public enum MLFeatureType: Int, @unchecked Sendable {
    case invalid = 0
    case int64 = 1
    case double = 2
    case string = 3
    case image = 4
    case multiArray = 5
    case dictionary = 6
    case sequence = 7
    case state = 8
}

open class MLSequence: NSObject {
    public let type: MLFeatureType
    public let stringValues: [String]
    public let int64Values: [NSNumber]

    public init(strings: [String]) {
        type = .string
        stringValues = strings
        int64Values = []
    }

    public init(int64s: [NSNumber]) {
        type = .int64
        stringValues = []
        int64Values = int64s
    }
}

open class MLFeatureValue: NSObject {
    private enum Contents {
        case int64(Int64)
        case double(Double)
        case string(String)
        case image(CVPixelBuffer)
        case array(MLMultiArray)
        case dictionary([AnyHashable: NSNumber])
        case sequence(MLSequence)
        case undefined
    }

    public let type: MLFeatureType
    private let contents: Contents

    private init(_ type: MLFeatureType, _ contents: Contents) {
        self.type = type
        self.contents = contents
    }

    public convenience init(int64 value: Int64) { self.init(.int64, .int64(value)) }
    public convenience init(double value: Double) { self.init(.double, .double(value)) }
    public convenience init(string value: String) { self.init(.string, .string(value)) }
    public convenience init(multiArray value: MLMultiArray) { self.init(.multiArray, .array(value)) }
    public convenience init(pixelBuffer value: CVPixelBuffer) { self.init(.image, .image(value)) }
    public convenience init(sequence: MLSequence) { self.init(.sequence, .sequence(sequence)) }
    public convenience init(undefined type: MLFeatureType) { self.init(type, .undefined) }

    public convenience init(dictionary value: [AnyHashable: NSNumber]) throws {
        self.init(.dictionary, .dictionary(value))
    }

    public var isUndefined: Bool { if case .undefined = contents { true } else { false } }
    public var int64Value: Int64 { if case .int64(let value) = contents { value } else { 0 } }
    public var doubleValue: Double { if case .double(let value) = contents { value } else { 0 } }
    public var stringValue: String { if case .string(let value) = contents { value } else { "" } }
    public var multiArrayValue: MLMultiArray? { if case .array(let value) = contents { value } else { nil } }
    public var imageBufferValue: CVPixelBuffer? { if case .image(let value) = contents { value } else { nil } }
    public var sequenceValue: MLSequence? { if case .sequence(let value) = contents { value } else { nil } }
    public var dictionaryValue: [AnyHashable: NSNumber] {
        if case .dictionary(let value) = contents { value } else { [:] }
    }
}

public protocol MLFeatureProvider: AnyObject {
    var featureNames: Set<String> { get }
    func featureValue(for featureName: String) -> MLFeatureValue?
}

public protocol MLBatchProvider: AnyObject {
    var count: Int { get }
    func features(at index: Int) -> any MLFeatureProvider
}

open class MLArrayBatchProvider: NSObject, MLBatchProvider {
    public let array: [any MLFeatureProvider]

    public init(array: [any MLFeatureProvider]) {
        self.array = array
    }

    public var count: Int { array.count }
    public func features(at index: Int) -> any MLFeatureProvider { array[index] }
}
