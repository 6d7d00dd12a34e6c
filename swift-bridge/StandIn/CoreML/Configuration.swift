// Core ML's configuration.

import Foundation

public enum MLComputeUnits: Int, @unchecked Sendable {
    case cpuOnly = 0
    case cpuAndGPU = 1
    case all = 2
    case cpuAndNeuralEngine = 3
}

@available(macOS 14.4, iOS 17.4, *)
public struct MLOptimizationHints: Equatable, Sendable {
    public enum ReshapeFrequency: Int, Sendable {
        case frequent = 0
        case infrequent = 1
    }

    @available(macOS 15.0, iOS 18.0, *)
    public enum SpecializationStrategy: Int, Sendable {
        case `default` = 0
        case fastPrediction = 1
    }

    public var reshapeFrequency = ReshapeFrequency.frequent
    @available(macOS 15.0, iOS 18.0, *)
    public var specializationStrategy: SpecializationStrategy {
        get { strategy == 1 ? .fastPrediction : .default }
        set { strategy = newValue.rawValue }
    }
    private var strategy = 0

    public init() {}
}

open class MLModelConfiguration: NSObject {
    public override init() {}
    public var computeUnits = MLComputeUnits.all
    public var allowLowPrecisionAccumulationOnGPU = false
    @available(macOS 15.0, iOS 18.0, *)
    public var functionName: String? {
        get { function }
        set { function = newValue }
    }
    @available(macOS 14.4, iOS 17.4, *)
    public var optimizationHints: MLOptimizationHints {
        get { hints }
        set { hints = newValue }
    }
    var function: String?
    private var hints = MLOptimizationHints()
}

open class MLPredictionOptions: NSObject {
    public override init() {}
    public var outputBackings: [String: Any] = [:]
}
