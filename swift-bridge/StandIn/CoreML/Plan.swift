// Compute devices, model structures and compute plans.

import CBridge
import Foundation

open class MLCPUComputeDevice: NSObject, @unchecked Sendable {}

open class MLGPUComputeDevice: NSObject, @unchecked Sendable {}

open class MLNeuralEngineComputeDevice: NSObject, @unchecked Sendable {
    public let totalCoreCount = 16
}

@available(macOS 14.0, iOS 17.0, *)
public enum MLComputeDevice: Equatable, Hashable, Sendable {
    case cpu(MLCPUComputeDevice)
    case gpu(MLGPUComputeDevice)
    case neuralEngine(MLNeuralEngineComputeDevice)

    /// Held plainly too: in the enumeration the pointers carry the case, and leak finders do not know them.
    private static let devices = (MLCPUComputeDevice(), MLGPUComputeDevice(), MLNeuralEngineComputeDevice())
    private static let all: [Self] = [.cpu(devices.0), .gpu(devices.1), .neuralEngine(devices.2)]

    public static var allComputeDevices: [Self] { all }
}

@available(macOS 14.4, iOS 17.4, *)
public enum MLModelStructure: Sendable {
    public struct Program: Sendable {
        public struct NamedValueType: Sendable {
            public let name: String
        }

        public struct Operation: Sendable {
            public let operatorName: String
            public let outputs: [NamedValueType]
            public let blocks: [Block]
            /// Core ML knows its operations apart; here they have their place in the order.
            let position: Int
        }

        public struct Block: Sendable {
            public let operations: [Operation]
        }

        public struct Function: Sendable {
            public let block: Block
        }

        public let functions: [String: Function]
    }

    public struct NeuralNetwork: Sendable {
        public struct Layer: Sendable {
            public let name: String
            public let type: String
        }

        public let layers: [Layer]
    }

    public struct Pipeline: Sendable {
        public let subModelNames: [String]
        public let subModels: [MLModelStructure]
    }

    case neuralNetwork(NeuralNetwork)
    case program(Program)
    case pipeline(Pipeline)
    case unsupported
}

@available(macOS 14.4, iOS 17.4, *)
open class MLComputePlan {
    public struct DeviceUsage: Sendable {
        public let supported: [MLComputeDevice]
        public let preferred: MLComputeDevice
    }

    public struct Cost: Sendable {
        public let weight: Double
    }

    public final let modelStructure: MLModelStructure
    private let told: [Told]

    private struct Told {
        let name: String
        let output: String
        let preferred: Int32
        let supported: UInt32
        let cost: Double
    }

    private final class Sink {
        var told: [Told] = []
    }

    public static func load(contentsOf url: URL, configuration: MLModelConfiguration) async throws -> MLComputePlan {
        try MLComputePlan(url, configuration)
    }

    private init(_ url: URL, _ configuration: MLModelConfiguration) throws {
        let faults = StandIn.shared.faults
        pause(faults.plan_seconds)
        if let failure = StandIn.shared.failure(faults.plan_error, "planning") { throw failure }
        let opened = try Opened(url, configuration.function)
        let sink = Sink()
        opened.engine.operations(opened.pointer, Unmanaged.passUnretained(sink).toOpaque()) { sink, told in
            guard let sink, let told = told?.pointee else { return }
            let sinkObject = Unmanaged<Sink>.fromOpaque(sink).takeUnretainedValue()
            sinkObject.told.append(
                Told(
                    name: String(cString: told.operator_name), output: String(cString: told.output_name),
                    preferred: told.preferred, supported: told.supported, cost: told.cost))
        }
        told = sink.told
        let operations = told.enumerated().map { position, told in
            MLModelStructure.Program.Operation(
                operatorName: told.name, outputs: [.init(name: told.output)], blocks: [], position: position)
        }
        let function = MLModelStructure.Program.Function(block: .init(operations: operations))
        modelStructure = .program(.init(functions: [configuration.function ?? "main": function]))
    }

    public func estimatedCost(of operation: MLModelStructure.Program.Operation) -> Cost? {
        let cost = told[operation.position].cost
        return cost.isNaN ? nil : Cost(weight: cost)
    }

    public func deviceUsage(for layer: MLModelStructure.NeuralNetwork.Layer) -> DeviceUsage? { nil }

    public func deviceUsage(for operation: MLModelStructure.Program.Operation) -> DeviceUsage? {
        let told = told[operation.position]
        let devices = MLComputeDevice.allComputeDevices
        guard devices.indices.contains(Int(told.preferred)) else { return nil }
        let supported = devices.indices.filter { told.supported & (1 << UInt32($0)) != 0 }.map { devices[$0] }
        return DeviceUsage(supported: supported, preferred: devices[Int(told.preferred)])
    }
}
