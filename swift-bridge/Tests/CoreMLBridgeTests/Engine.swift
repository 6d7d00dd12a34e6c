// An engine in Swift for the stand-in: `y = 2 x`, both 3 x 5 of f32. Models are files whose contents do not matter.

import CBridge
import CStandIn
import Foundation

private let shape: [Int64] = [3, 5]

private func withDescription(_ body: (UnsafePointer<cmlb_description>) -> Void) {
    shape.withUnsafeBufferPointer { shape in
        "x".withCString { x in
            "y".withCString { y in
                var features = [cmlb_feature(), cmlb_feature()]
                for i in features.indices {
                    features[i].name = i == 0 ? x : y
                    features[i].role = i == 0 ? CMLB_ROLE_INPUT : CMLB_ROLE_OUTPUT
                    features[i].kind = CMLB_KIND_ARRAY
                    features[i].data_type = CMLB_TYPE_FLOAT32
                    features[i].shape = shape.baseAddress
                    features[i].rank = shape.count
                    features[i].shapes = CMLB_SHAPES_FIXED
                }
                features.withUnsafeBufferPointer { features in
                    var description = cmlb_description()
                    description.features = features.baseAddress
                    description.feature_count = features.count
                    body(&description)
                }
            }
        }
    }
}

func installDoublingEngine() {
    var engine = cmlb_standin_engine(
        context: nil,
        open: { _, _, _, model, _, _ in
            model?.pointee = malloc(1)
            return 0
        },
        describe: { _, sink, tell in withDescription { tell?(sink, $0) } },
        operations: { _, sink, tell in
            "double".withCString { name in
                var operation = cmlb_operation()
                operation.operator_name = name
                operation.output_name = name
                operation.preferred = CMLB_DEVICE_NEURAL_ENGINE
                operation.supported = 5
                operation.cost = 1
                tell?(sink, &operation)
            }
        },
        predict: { _, _, inputs, count, sink, tell, _, _ in
            guard let inputs, count == 1, let data = inputs[0].data else { return -1 }
            let x = UnsafeBufferPointer(start: data.assumingMemoryBound(to: Float.self), count: 15)
            var y = x.map { 2 * $0 }
            y.withUnsafeMutableBytes { bytes in
                "y".withCString { name in
                    var value = inputs[0]
                    value.name = name
                    value.data = bytes.baseAddress
                    tell?(sink, &value)
                }
            }
            return 0
        },
        make_state: { _ in malloc(1) },
        close_state: { free($0) },
        close: { free($0) })
    cmlb_standin_install(&engine)
}
