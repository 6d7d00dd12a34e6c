// A model's whole interface as plain C data.

import CBridge
import CoreML
import Foundation

private final class DescriptionBox: Handle, @unchecked Sendable {
    let arena: Arena

    init(_ arena: Arena) {
        self.arena = arena
        super.init(CMLB_HANDLE_DESCRIPTION)
    }
}

@_cdecl("cmlb_model_describe")
public func cmlb_model_describe(
    _ model: OpaquePointer?, _ description: UnsafeMutablePointer<UnsafePointer<cmlb_description>?>?,
    _ error: UnsafeMutablePointer<cmlb_error>?
) -> Int32 {
    exported(error) {
        let place = try place(description, "the description")
        place.pointee = nil
        let model = try Handle.of(model, as: ModelBox.self).model
        let arena = Arena()
        var made = try catchingExceptions { try describe(model.modelDescription, in: arena) }
        made.owner = DescriptionBox(arena).retainedPointer()
        place.pointee = arena.one(made)
    }
}

@_cdecl("cmlb_description_release")
public func cmlb_description_release(_ description: UnsafePointer<cmlb_description>?) {
    Handle.release(description?.pointee.owner)
}

private func describe(_ description: MLModelDescription, in arena: Arena) throws -> cmlb_description {
    var features: [cmlb_feature] = []
    func add(_ descriptions: [String: MLFeatureDescription], _ role: Int32) throws {
        for (name, description) in descriptions.sorted(by: { $0.key < $1.key }) {
            features.append(try feature(name, description, role, in: arena))
        }
    }
    try add(description.inputDescriptionsByName, CMLB_ROLE_INPUT)
    try add(description.outputDescriptionsByName, CMLB_ROLE_OUTPUT)
    if #available(macOS 15.0, iOS 18.0, *) {
        try add(description.stateDescriptionsByName, CMLB_ROLE_STATE)
    }
    var made = cmlb_description()
    made.features = arena.list(features)
    made.feature_count = features.count
    made.predicted_feature = description.predictedFeatureName.map(arena.text)
    made.predicted_probabilities = description.predictedProbabilitiesName.map(arena.text)
    if let labels = description.classLabels {
        made.label_count = labels.count
        if let texts = labels as? [String] {
            made.label_texts = arena.texts(texts)
        } else if let numbers = labels as? [NSNumber] {
            made.label_numbers = arena.list(numbers.map(\.int64Value))
        } else {
            throw BridgeError.unsupported("the class labels are neither texts nor numbers")
        }
    }
    return made
}

private func feature(
    _ name: String, _ description: MLFeatureDescription, _ role: Int32, in arena: Arena
) throws -> cmlb_feature {
    var made = cmlb_feature()
    made.name = arena.text(name)
    made.role = role
    made.kind = Int32(truncatingIfNeeded: description.type.rawValue)
    made.optional = description.isOptional ? 1 : 0
    made.shapes = CMLB_SHAPES_FIXED
    if let array = description.multiArrayConstraint {
        made.data_type = Int32(truncatingIfNeeded: array.dataType.rawValue)
        setShape(&made, array.shape.map(\.int64Value), in: arena)
        try setShapes(&made, array.shapeConstraint, of: name, in: arena)
    } else if let image = description.imageConstraint {
        made.pixel_format = image.pixelFormatType
        setShape(&made, [Int64(image.pixelsHigh), Int64(image.pixelsWide)], in: arena)
        setSizes(&made, image.sizeConstraint, in: arena)
    } else if let dictionary = description.dictionaryConstraint {
        made.key_kind = Int32(truncatingIfNeeded: dictionary.keyType.rawValue)
    } else if let sequence = description.sequenceConstraint {
        made.key_kind = Int32(truncatingIfNeeded: sequence.valueDescription.type.rawValue)
    } else if #available(macOS 15.0, iOS 18.0, *), let state = description.stateConstraint {
        made.data_type = Int32(truncatingIfNeeded: state.dataType.rawValue)
        setShape(&made, state.bufferShape.map { Int64($0) }, in: arena)
    }
    return made
}

private func setShape(_ made: inout cmlb_feature, _ shape: [Int64], in arena: Arena) {
    made.shape = arena.list(shape)
    made.rank = shape.count
}

/// Which shapes a multi-array admits.
private func setShapes(
    _ made: inout cmlb_feature, _ constraint: MLMultiArrayShapeConstraint, of name: String, in arena: Arena
) throws {
    switch constraint.type {
    case .enumerated:
        let shapes = constraint.enumeratedShapes
        guard let rank = shapes.first?.count, shapes.allSatisfy({ $0.count == rank }) else {
            throw BridgeError.unsupported("the shapes of `\(name)` differ in rank")
        }
        made.shapes = CMLB_SHAPES_ENUMERATED
        made.enumerated = arena.list(shapes.joined().map(\.int64Value))
        made.enumerated_count = shapes.count
        made.rank = rank
    case .range:
        let ranges = constraint.sizeRangeForDimension.map { range($0.rangeValue) }
        made.shapes = CMLB_SHAPES_RANGE
        made.ranges = arena.list(ranges)
        made.rank = ranges.count
    default:
        made.shapes = CMLB_SHAPES_FIXED
    }
}

/// Which sizes an image admits.
private func setSizes(_ made: inout cmlb_feature, _ constraint: MLImageSizeConstraint, in arena: Arena) {
    switch constraint.type {
    case .enumerated:
        let sizes = constraint.enumeratedImageSizes
        made.shapes = CMLB_SHAPES_ENUMERATED
        made.enumerated = arena.list(sizes.flatMap { [Int64($0.pixelsHigh), Int64($0.pixelsWide)] })
        made.enumerated_count = sizes.count
    case .range:
        made.shapes = CMLB_SHAPES_RANGE
        made.ranges = arena.list([range(constraint.pixelsHighRange), range(constraint.pixelsWideRange)])
    default:
        made.shapes = CMLB_SHAPES_FIXED
    }
}

/// Core ML writes an unbounded dimension as a huge length.
private func range(_ range: NSRange) -> cmlb_range {
    let unbounded = range.length >= Int(Int32.max)
    let last = unbounded ? -1 : Int64(range.location) + Int64(range.length) - 1
    return cmlb_range(minimum: Int64(range.location), maximum: last)
}
