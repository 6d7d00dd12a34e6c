// Predictions: one, with outputs in the caller's memory where they fit, and batches.

import CBridge
import CoreML
import Foundation

@_cdecl("cmlb_model_predict")
public func cmlb_model_predict(
    _ model: OpaquePointer?, _ state: OpaquePointer?, _ inputs: UnsafePointer<cmlb_value>?, _ inputCount: Int,
    _ outputs: UnsafeMutablePointer<cmlb_output>?, _ outputCount: Int, _ prediction: UnsafeMutablePointer<OpaquePointer?>?,
    _ error: UnsafeMutablePointer<cmlb_error>?
) -> Int32 {
    exported(error) {
        let place = try place(prediction, "the prediction")
        place.pointee = nil
        let box = try Handle.of(model, as: ModelBox.self)
        let state = try state.map { try Handle.of($0, as: StateBox.self) }
        _ = try list(outputs, outputCount, "the outputs")
        let wanted = UnsafeMutableBufferPointer(start: outputs, count: outputCount)
        let rest = try interval("predict") {
            let given = try features(inputs, inputCount, for: box)
            let (provider, backings) = try ask(box, state, given, wanted)
            return try deliver(provider, wanted, backings)
        }
        place.pointee = rest.map { OpaquePointer($0.retainedPointer()) }
    }
}

/// Multi-arrays over the caller's memory, for outputs whose declared type is the one wanted.
private func offered(
    _ wanted: UnsafeMutableBufferPointer<cmlb_output>, by box: ModelBox
) throws -> [String: MLMultiArray] {
    var backings = [String: MLMultiArray](minimumCapacity: wanted.count)
    for output in wanted {
        let name = try text(output.name, "the name of an output")
        if box.outputTypes[name] != Int(output.type) { continue }
        let shape = try list(output.shape, output.rank, "the shape of `\(name)`")
        backings[name] = try multiArray(
            over: output.data, byteCount: output.byte_count, type: output.type, shape: shape, strides: nil, of: name)
    }
    return backings
}

/// Asks Core ML, offering it the caller's memory for outputs. Gives the answer, and what memory had been offered.
private func ask(
    _ box: ModelBox, _ state: StateBox?, _ given: Features, _ wanted: UnsafeMutableBufferPointer<cmlb_output>
) throws -> (any MLFeatureProvider, [String: MLMultiArray]) {
    // A prediction on a state cannot be tried again, so nothing is offered that might be refused.
    let backings = state == nil && box.offersBackings ? try offered(wanted, by: box) : [:]
    if backings.isEmpty { return (try run(box, state, given, [:]), [:]) }
    do {
        return (try run(box, nil, given, backings), backings)
    } catch {
        if (error as NSError).domain != MLModelErrorDomain { throw error }
        // Core ML may refuse memory that its rules admit. Without it the prediction shows whose fault it was.
        let provider = try run(box, nil, given, [:])
        box.offersBackings = false
        return (provider, [:])
    }
}

/// One call of Core ML.
private func run(
    _ box: ModelBox, _ state: StateBox?, _ given: Features, _ backings: [String: MLMultiArray]
) throws -> any MLFeatureProvider {
    let options = MLPredictionOptions()
    if !backings.isEmpty { options.outputBackings = backings }
    // Predictions on one state must not overlap, whichever call makes them.
    let stateTurn = try state.map { try Turn($0.turn, box.busySeconds, "the state") }
    defer { stateTurn?.end() }
    if box.concurrent { return try await_(box, state, given, options) }
    let turn = try Turn(box.turn, box.busySeconds, "the model")
    defer { turn.end() }
    return try catchingExceptions {
        guard let state else { return try box.model.prediction(from: given, options: options) }
        guard #available(macOS 15.0, iOS 18.0, *) else { throw StateBox.tooOld }
        return try box.model.prediction(from: given, using: try state.state(), options: options)
    }
}

/// The same through the asynchronous call.
private func await_(
    _ box: ModelBox, _ state: StateBox?, _ given: Features, _ options: MLPredictionOptions
) throws -> any MLFeatureProvider {
    let answer = Answer<any MLFeatureProvider>()
    let carried = Carried(value: (given, options))
    Task.detached(priority: .userInitiated) {
        do {
            let (given, options) = carried.value
            guard let state else {
                return answer.give(.success(try await box.model.prediction(from: given, options: options)))
            }
            guard #available(macOS 15.0, iOS 18.0, *) else { throw StateBox.tooOld }
            let provider = try await box.model.prediction(from: given, using: try state.state(), options: options)
            answer.give(.success(provider))
        } catch {
            answer.give(.failure(error))
        }
    }
    return try answer.wait(0, for: "the prediction")
}

/// Exclusive use of what a lock guards, waited for no longer than asked.
private struct Turn {
    private let lock: NSLock

    init(_ lock: NSLock, _ seconds: Double, _ what: String) throws {
        if !lock.try() {
            if seconds <= 0 {
                lock.lock()
            } else if !lock.lock(before: Date(timeIntervalSinceNow: seconds)) {
                throw BridgeError.busy("\(what) has been in use by another prediction for \(seconds) s")
            }
        }
        self.lock = lock
    }

    func end() {
        lock.unlock()
    }
}

/// Puts outputs where the caller wants them; those that do not fit, and all others, go into the handle.
private func deliver(
    _ provider: any MLFeatureProvider, _ wanted: UnsafeMutableBufferPointer<cmlb_output>, _ backings: [String: MLMultiArray]
) throws -> PredictionBox? {
    var rest = provider.featureNames
    for i in wanted.indices {
        wanted[i].came = CMLB_OUTPUT_ELSEWHERE
        let name = try text(wanted[i].name, "the name of an output")
        guard let array = provider.featureValue(for: name)?.multiArrayValue else { continue }
        if let backing = backings[name], backing === array {
            wanted[i].came = CMLB_OUTPUT_IN_PLACE
            rest.remove(name)
            continue
        }
        let shape = try list(wanted[i].shape, wanted[i].rank, "the shape of `\(name)`")
        guard let size = elementSize(Int(wanted[i].type)), let count = elementCount(shape), let data = wanted[i].data,
            wanted[i].byte_count == count * size
        else {
            throw BridgeError.invalidArgument("`\(name)` is wanted in memory of another size than its shape's")
        }
        let same = array.dataType.rawValue == Int(wanted[i].type) && array.shape.map(\.int64Value).elementsEqual(shape)
        if !same { continue }
        try copyDense(array, to: data, elementSize: size, of: name)
        wanted[i].came = CMLB_OUTPUT_COPIED
        rest.remove(name)
    }
    return try prediction(provider, rest)
}

@_cdecl("cmlb_model_predict_batch")
public func cmlb_model_predict_batch(
    _ model: OpaquePointer?, _ items: UnsafePointer<cmlb_item>?, _ itemCount: Int,
    _ predictions: UnsafeMutablePointer<OpaquePointer?>?, _ error: UnsafeMutablePointer<cmlb_error>?
) -> Int32 {
    exported(error) {
        let places = try place(predictions, "the predictions")
        let items = try list(items, itemCount, "the items")
        for i in items.indices { places[i] = nil }
        let box = try Handle.of(model, as: ModelBox.self)
        let made: [PredictionBox?] = try interval("predict batch") {
            let given = try items.map { try features($0.inputs, $0.input_count, for: box) }
            let batch = MLArrayBatchProvider(array: given)
            let turn = try Turn(box.turn, box.busySeconds, "the model")
            defer { turn.end() }
            let answers = try catchingExceptions {
                try box.model.predictions(from: batch, options: MLPredictionOptions())
            }
            guard answers.count == items.count else {
                throw BridgeError.unsupported("\(answers.count) answers came for a batch of \(items.count)")
            }
            return try (0..<answers.count).map { i in
                let provider = answers.features(at: i)
                return try prediction(provider, provider.featureNames)
            }
        }
        for (i, box) in made.enumerated() { places[i] = box.map { OpaquePointer($0.retainedPointer()) } }
    }
}
