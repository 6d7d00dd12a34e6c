// Where Core ML means to run a model: its compute plan, operation by operation.

import CBridge
import CoreML
import Foundation

private final class PlanBox: Handle, @unchecked Sendable {
    let arena: Arena

    init(_ arena: Arena) {
        self.arena = arena
        super.init(CMLB_HANDLE_PLAN)
    }
}

@_cdecl("cmlb_plan_load")
public func cmlb_plan_load(
    _ compiled: UnsafePointer<CChar>?, _ given: UnsafePointer<cmlb_configuration>?,
    _ plan: UnsafeMutablePointer<UnsafePointer<cmlb_plan>?>?, _ error: UnsafeMutablePointer<cmlb_error>?
) -> Int32 {
    exported(error) {
        let place = try place(plan, "the plan")
        place.pointee = nil
        let url = URL(fileURLWithPath: try text(compiled, "the path"))
        guard #available(macOS 14.4, iOS 17.4, *) else {
            throw BridgeError.unavailable("compute plans need macOS 14.4 or iOS 17.4")
        }
        let settings = Carried(value: try configuration(given))
        let answer = Answer<Carried<MLComputePlan>>()
        Task.detached(priority: .userInitiated) {
            do {
                let plan = try await MLComputePlan.load(contentsOf: url, configuration: settings.value)
                answer.give(.success(Carried(value: plan)))
            } catch {
                answer.give(.failure(error))
            }
        }
        let loaded = try interval("plan") {
            try answer.wait(given?.pointee.timeout_seconds ?? 0, for: "planning the model").value
        }
        let arena = Arena()
        let function = try given?.pointee.function_name.map { try text($0, "the function") }
        let operations = operations(loaded, loaded.modelStructure, function, in: arena)
        var made = cmlb_plan()
        made.operations = arena.list(operations)
        made.operation_count = operations.count
        made.owner = PlanBox(arena).retainedPointer()
        place.pointee = arena.one(made)
    }
}

@_cdecl("cmlb_plan_release")
public func cmlb_plan_release(_ plan: UnsafePointer<cmlb_plan>?) {
    Handle.release(plan?.pointee.owner)
}

/// Every operation of the structure, those in the blocks of others included.
@available(macOS 14.4, iOS 17.4, *)
private func operations(
    _ plan: MLComputePlan, _ structure: MLModelStructure, _ function: String?, in arena: Arena
) -> [cmlb_operation] {
    var found: [cmlb_operation] = []
    func add(_ name: String, _ output: String, _ usage: MLComputePlan.DeviceUsage?, _ cost: Double?) {
        var made = cmlb_operation()
        made.operator_name = arena.text(name)
        made.output_name = arena.text(output)
        made.preferred = usage.map { device($0.preferred) } ?? -1
        made.supported = usage?.supported.reduce(UInt32(0)) { $0 | (1 << UInt32(device($1))) } ?? 0
        made.cost = cost ?? .nan
        found.append(made)
    }
    func walk(_ block: MLModelStructure.Program.Block) {
        for operation in block.operations {
            let cost = plan.estimatedCost(of: operation)?.weight
            add(operation.operatorName, operation.outputs.first?.name ?? "", plan.deviceUsage(for: operation), cost)
            operation.blocks.forEach(walk)
        }
    }
    switch structure {
    case .program(let program):
        let main = program.functions[function ?? "main"]
        // A program whose only function has another name.
        let sole = program.functions.count == 1 ? program.functions.values.first : nil
        if let chosen = main ?? sole { walk(chosen.block) }
    case .neuralNetwork(let network):
        for layer in network.layers { add(layer.type, layer.name, plan.deviceUsage(for: layer), nil) }
    case .pipeline(let pipeline):
        for member in pipeline.subModels { found += operations(plan, member, nil, in: arena) }
    case .unsupported:
        break
    @unknown default:
        break
    }
    return found
}
