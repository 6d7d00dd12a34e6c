// The caller's configuration as Core ML's.

import CBridge
import CoreML
import Foundation

/// Core ML's configuration for the caller's; NULL is the default.
func configuration(_ given: UnsafePointer<cmlb_configuration>?) throws -> MLModelConfiguration {
    let made = MLModelConfiguration()
    guard let given = given?.pointee else { return made }
    // Raw values of imported enumerations are not checked on Apple's systems: it is done here.
    guard (0...3).contains(given.compute_units), let units = MLComputeUnits(rawValue: Int(given.compute_units)) else {
        throw BridgeError.invalidArgument("\(given.compute_units) is no MLComputeUnits")
    }
    made.computeUnits = units
    made.allowLowPrecisionAccumulationOnGPU = given.low_precision_accumulation == 1
    if let name = given.function_name {
        guard #available(macOS 15.0, iOS 18.0, *) else {
            throw BridgeError.unavailable("functions of a model can be chosen from macOS 15 and iOS 18 on")
        }
        made.functionName = String(cString: name)
    }
    try setHints(made, given)
    return made
}

/// Hints are wishes: a system too old for them does without. Values that do not exist are mistakes all the same.
private func setHints(_ made: MLModelConfiguration, _ given: cmlb_configuration) throws {
    guard (-1...1).contains(given.reshape_frequency), (-1...1).contains(given.specialization_strategy) else {
        let hints = "\(given.reshape_frequency) and \(given.specialization_strategy)"
        throw BridgeError.invalidArgument("the optimisation hints are \(hints), not -1, 0 or 1")
    }
    guard #available(macOS 14.4, iOS 17.4, *) else { return }
    var hints = made.optimizationHints
    if given.reshape_frequency >= 0 {
        hints.reshapeFrequency = given.reshape_frequency == 1 ? .infrequent : .frequent
    }
    if #available(macOS 15.0, iOS 18.0, *), given.specialization_strategy >= 0 {
        hints.specializationStrategy = given.specialization_strategy == 1 ? .fastPrediction : .default
    }
    made.optimizationHints = hints
}
