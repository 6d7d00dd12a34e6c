// Models: compiled into a folder, loaded through the engine, predicting through it.

import CBridge
import CStandIn
import Foundation

/// A model that the engine has opened. Closed with the last reference.
final class Opened: @unchecked Sendable {
    let engine: cmlb_standin_engine
    let pointer: UnsafeMutableRawPointer

    init(_ url: URL, _ function: String?) throws {
        guard let engine = StandIn.shared.engine else { throw MLModelError(.generic, "no engine is installed") }
        let folder = url.appendingPathComponent("model")
        let exists = FileManager.default.fileExists(atPath: url.appendingPathComponent("coremldata.bin").path)
        guard exists, let name = try? FileManager.default.contentsOfDirectory(atPath: folder.path).first else {
            throw MLModelError(.io, "\(url.path) is no compiled model")
        }
        var model: UnsafeMutableRawPointer?
        var message = [CChar](repeating: 0, count: 1024)
        let path = folder.appendingPathComponent(name).path
        let status = withOptional(function) { engine.open(engine.context, path, $0, &model, &message, message.count) }
        guard status == 0, let model else { throw MLModelError(.generic, String(cString: message)) }
        self.engine = engine
        pointer = model
    }

    deinit {
        engine.close(pointer)
    }
}

private func withOptional<R>(_ text: String?, _ body: (UnsafePointer<CChar>?) -> R) -> R {
    if let text { text.withCString { body($0) } } else { body(nil) }
}

@available(macOS 15.0, iOS 18.0, *)
public final class MLState: NSObject, @unchecked Sendable {
    let model: Opened
    let pointer: UnsafeMutableRawPointer?

    init(_ model: Opened) {
        self.model = model
        pointer = model.engine.make_state(model.pointer)
    }

    deinit {
        if let pointer { model.engine.close_state(pointer) }
    }
}

open class MLModel: NSObject {
    public let modelDescription = MLModelDescription()
    public let configuration: MLModelConfiguration
    let opened: Opened
    private let lock = NSLock()
    private var running = 0

    public init(contentsOf url: URL, configuration: MLModelConfiguration) throws {
        let faults = StandIn.shared.faults
        StandIn.shared.count(CMLB_STANDIN_LOADS)
        pause(faults.load_seconds)
        if let failure = StandIn.shared.failure(faults.load_error, "loading") { throw failure }
        self.configuration = configuration
        opened = try Opened(url, configuration.function)
        super.init()
        StandIn.shared.count(CMLB_STANDIN_MODELS)
        let sink = Unmanaged.passUnretained(modelDescription).toOpaque()
        opened.engine.describe(opened.pointer, sink) { sink, told in
            guard let sink, let told else { return }
            Unmanaged<MLModelDescription>.fromOpaque(sink).takeUnretainedValue().set(told.pointee)
        }
    }

    deinit {
        StandIn.shared.count(CMLB_STANDIN_MODELS, -1)
    }

    public class func compileModel(at url: URL, completionHandler handler: @escaping (Result<URL, any Error>) -> Void) {
        Thread.detachNewThread { handler(Result { try compile(url) }) }
    }

    private static func compile(_ url: URL) throws -> URL {
        let faults = StandIn.shared.faults
        StandIn.shared.count(CMLB_STANDIN_COMPILATIONS)
        pause(faults.compile_seconds)
        if let failure = StandIn.shared.failure(faults.compile_error, "compiling") { throw failure }
        let files = FileManager.default
        guard files.fileExists(atPath: url.path) else { throw MLModelError(.io, "there is no \(url.path)") }
        let name = url.deletingPathExtension().lastPathComponent
        let folder = files.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        let compiled = folder.appendingPathComponent(name + ".mlmodelc")
        let copy = compiled.appendingPathComponent("model")
        try files.createDirectory(at: copy, withIntermediateDirectories: true)
        try files.copyItem(at: url, to: copy.appendingPathComponent(url.lastPathComponent))
        try Data("stand-in".utf8).write(to: compiled.appendingPathComponent("coremldata.bin"))
        if faults.compiled_vanishes == 1 { try files.removeItem(at: folder) }
        return compiled
    }

    public class func load(
        contentsOf url: URL, configuration: MLModelConfiguration = MLModelConfiguration(),
        completionHandler handler: @escaping (Result<MLModel, any Error>) -> Void
    ) {
        Thread.detachNewThread { handler(Result { try MLModel(contentsOf: url, configuration: configuration) }) }
    }

    public func prediction(
        from input: any MLFeatureProvider, options: MLPredictionOptions
    ) throws -> any MLFeatureProvider {
        try synchronously { try compute(input, options.outputBackings, nil) }
    }

    @available(macOS 14.0, iOS 17.0, *)
    public func prediction(
        from input: any MLFeatureProvider, options: MLPredictionOptions = MLPredictionOptions()
    ) async throws -> any MLFeatureProvider {
        try await asynchronously { try self.compute(input, options.outputBackings, nil) }
    }

    @available(macOS 15.0, iOS 18.0, *)
    public func prediction(
        from input: any MLFeatureProvider, using state: MLState, options: MLPredictionOptions
    ) throws -> any MLFeatureProvider {
        try synchronously { try compute(input, options.outputBackings, state.pointer) }
    }

    @available(macOS 15.0, iOS 18.0, *)
    public func prediction(
        from input: any MLFeatureProvider, using state: MLState, options: MLPredictionOptions = MLPredictionOptions()
    ) async throws -> any MLFeatureProvider {
        try await asynchronously { try self.compute(input, options.outputBackings, state.pointer) }
    }

    public func predictions(
        from inputBatch: any MLBatchProvider, options: MLPredictionOptions
    ) throws -> any MLBatchProvider {
        try synchronously {
            MLArrayBatchProvider(
                array: try (0..<inputBatch.count).map { try compute(inputBatch.features(at: $0), [:], nil) })
        }
    }

    @available(macOS 15.0, iOS 18.0, *)
    public func makeState() -> MLState {
        MLState(opened)
    }

    @available(macOS 14.0, iOS 17.0, *)
    public static var availableComputeDevices: [MLComputeDevice] { MLComputeDevice.allComputeDevices }

    /// One thread at a time may be here; others are counted, for a test to see.
    private func synchronously<R>(_ body: () throws -> R) rethrows -> R {
        lock.lock()
        running += 1
        if running > 1 { StandIn.shared.count(CMLB_STANDIN_OVERLAPS) }
        lock.unlock()
        defer {
            lock.lock()
            running -= 1
            lock.unlock()
        }
        return try body()
    }

    private func asynchronously(
        _ body: @escaping () throws -> any MLFeatureProvider
    ) async throws -> any MLFeatureProvider {
        try Task.checkCancellation()
        return try await withCheckedThrowingContinuation { continuation in
            DispatchQueue.global(qos: .userInitiated).async { continuation.resume(with: Result { try body() }) }
        }
    }

    private func compute(
        _ input: any MLFeatureProvider, _ backings: [String: Any], _ state: UnsafeMutableRawPointer?
    ) throws -> any MLFeatureProvider {
        let faults = StandIn.shared.faults
        StandIn.shared.count(CMLB_STANDIN_PREDICTIONS)
        pause(faults.predict_seconds)
        if let failure = StandIn.shared.failure(faults.predict_error, "predicting") { throw failure }
        let results = Results(modelDescription, input, backings, faults)
        let sink = Unmanaged.passUnretained(results).toOpaque()
        try withValues(of: input, for: modelDescription) { values, count in
            var message = [CChar](repeating: 0, count: 1024)
            let status = opened.engine.predict(
                opened.pointer, state, values, count, sink,
                { sink, value in
                    guard let sink, let value else { return }
                    Unmanaged<Results>.fromOpaque(sink).takeUnretainedValue().take(value.pointee)
                }, &message, message.count)
            if status != 0 { throw MLModelError(.generic, String(cString: message)) }
        }
        if let failure = results.failure { throw failure }
        return results
    }
}
