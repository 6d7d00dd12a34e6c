// A model's interface, made from what the engine tells of it.

import CBridge
import CoreVideo
import Foundation

public enum MLMultiArrayShapeConstraintType: Int, @unchecked Sendable {
    case unspecified = 1
    case enumerated = 2
    case range = 3
}

public enum MLImageSizeConstraintType: Int, @unchecked Sendable {
    case unspecified = 0
    case enumerated = 2
    case range = 3
}

open class MLMultiArrayShapeConstraint: NSObject {
    public internal(set) var type = MLMultiArrayShapeConstraintType.unspecified
    public internal(set) var sizeRangeForDimension: [NSValue] = []
    public internal(set) var enumeratedShapes: [[NSNumber]] = []
}

open class MLMultiArrayConstraint: NSObject {
    public internal(set) var shape: [NSNumber] = []
    public internal(set) var dataType = MLMultiArrayDataType.float32
    public let shapeConstraint = MLMultiArrayShapeConstraint()
}

open class MLImageSize: NSObject {
    public let pixelsWide: Int
    public let pixelsHigh: Int

    init(_ wide: Int, _ high: Int) {
        pixelsWide = wide
        pixelsHigh = high
    }
}

open class MLImageSizeConstraint: NSObject {
    public internal(set) var type = MLImageSizeConstraintType.unspecified
    public internal(set) var pixelsWideRange = NSRange()
    public internal(set) var pixelsHighRange = NSRange()
    public internal(set) var enumeratedImageSizes: [MLImageSize] = []
}

open class MLImageConstraint: NSObject {
    public internal(set) var pixelsHigh = 0
    public internal(set) var pixelsWide = 0
    public internal(set) var pixelFormatType = kCVPixelFormatType_32BGRA
    public let sizeConstraint = MLImageSizeConstraint()
}

open class MLDictionaryConstraint: NSObject {
    public let keyType: MLFeatureType

    init(_ keyType: MLFeatureType) { self.keyType = keyType }
}

open class MLSequenceConstraint: NSObject {
    public let valueDescription: MLFeatureDescription

    init(_ valueDescription: MLFeatureDescription) { self.valueDescription = valueDescription }
}

@available(macOS 15.0, iOS 18.0, *)
open class MLStateConstraint: NSObject {
    public let bufferShape: [Int]
    public let dataType: MLMultiArrayDataType

    init(_ bufferShape: [Int], _ dataType: MLMultiArrayDataType) {
        self.bufferShape = bufferShape
        self.dataType = dataType
    }
}

open class MLFeatureDescription: NSObject {
    public let name: String
    public let type: MLFeatureType
    public let isOptional: Bool
    public internal(set) var multiArrayConstraint: MLMultiArrayConstraint?
    public internal(set) var imageConstraint: MLImageConstraint?
    public internal(set) var dictionaryConstraint: MLDictionaryConstraint?
    public internal(set) var sequenceConstraint: MLSequenceConstraint?
    @available(macOS 15.0, iOS 18.0, *)
    public var stateConstraint: MLStateConstraint? { state }
    private var state: MLStateConstraint?

    private init(_ name: String, _ type: MLFeatureType) {
        self.name = name
        self.type = type
        isOptional = false
    }

    init(_ feature: cmlb_feature) {
        name = String(cString: feature.name)
        type = MLFeatureType(rawValue: Int(feature.kind)) ?? .invalid
        isOptional = feature.optional == 1
        let shape = (0..<feature.rank).map { NSNumber(value: feature.shape[$0]) }
        let dataType = MLMultiArrayDataType(rawValue: Int(feature.data_type)) ?? .unheardOf
        let key = MLFeatureType(rawValue: Int(feature.key_kind)) ?? .invalid
        super.init()
        switch type {
        case .multiArray:
            let constraint = MLMultiArrayConstraint()
            constraint.shape = shape
            constraint.dataType = dataType
            constraint.shapeConstraint.set(feature)
            multiArrayConstraint = constraint
        case .image:
            let constraint = MLImageConstraint()
            constraint.pixelsHigh = shape[0].intValue
            constraint.pixelsWide = shape[1].intValue
            constraint.pixelFormatType = feature.pixel_format
            constraint.sizeConstraint.set(feature)
            imageConstraint = constraint
        case .dictionary: dictionaryConstraint = MLDictionaryConstraint(key)
        case .sequence: sequenceConstraint = MLSequenceConstraint(MLFeatureDescription("", key))
        case .state: state = MLStateConstraint(shape.map(\.intValue), dataType)
        default: break
        }
    }
}

private func range(_ range: cmlb_range) -> NSRange {
    let length = range.maximum < 0 ? Int.max / 2 : Int(range.maximum - range.minimum) + 1
    return NSRange(location: Int(range.minimum), length: length)
}

extension MLMultiArrayShapeConstraint {
    fileprivate func set(_ feature: cmlb_feature) {
        if feature.shapes == CMLB_SHAPES_ENUMERATED {
            type = .enumerated
            enumeratedShapes = (0..<feature.enumerated_count).map { i in
                (0..<feature.rank).map { NSNumber(value: feature.enumerated[i * feature.rank + $0]) }
            }
        } else if feature.shapes == CMLB_SHAPES_RANGE {
            type = .range
            sizeRangeForDimension = (0..<feature.rank).map { NSValue(range: range(feature.ranges[$0])) }
        }
    }
}

extension MLImageSizeConstraint {
    fileprivate func set(_ feature: cmlb_feature) {
        if feature.shapes == CMLB_SHAPES_ENUMERATED {
            type = .enumerated
            enumeratedImageSizes = (0..<feature.enumerated_count).map { i in
                MLImageSize(Int(feature.enumerated[2 * i + 1]), Int(feature.enumerated[2 * i]))
            }
        } else if feature.shapes == CMLB_SHAPES_RANGE {
            type = .range
            pixelsHighRange = range(feature.ranges[0])
            pixelsWideRange = range(feature.ranges[1])
        }
    }
}

open class MLModelDescription: NSObject {
    public internal(set) var inputDescriptionsByName: [String: MLFeatureDescription] = [:]
    public internal(set) var outputDescriptionsByName: [String: MLFeatureDescription] = [:]
    @available(macOS 15.0, iOS 18.0, *)
    public var stateDescriptionsByName: [String: MLFeatureDescription] { states }
    public internal(set) var predictedFeatureName: String?
    public internal(set) var predictedProbabilitiesName: String?
    public internal(set) var classLabels: [Any]?
    var states: [String: MLFeatureDescription] = [:]

    func set(_ told: cmlb_description) {
        for i in 0..<told.feature_count {
            let feature = MLFeatureDescription(told.features[i])
            switch told.features[i].role {
            case CMLB_ROLE_INPUT: inputDescriptionsByName[feature.name] = feature
            case CMLB_ROLE_OUTPUT: outputDescriptionsByName[feature.name] = feature
            default: states[feature.name] = feature
            }
        }
        predictedFeatureName = told.predicted_feature.map { String(cString: $0) }
        predictedProbabilitiesName = told.predicted_probabilities.map { String(cString: $0) }
        if let texts = told.label_texts {
            classLabels = (0..<told.label_count).map { i in texts[i].map { String(cString: $0) } ?? "" }
        } else if let numbers = told.label_numbers {
            classLabels = (0..<told.label_count).map { NSNumber(value: numbers[$0]) }
        }
    }
}
