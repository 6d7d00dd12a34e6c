// Compiling, loading and releasing models.

import CBridge
import CoreML
import CoreVideo
import Foundation

/// A loaded model.
final class ModelBox: Handle, @unchecked Sendable {
    let model: MLModel
    /// Whether predictions go through the asynchronous call, which may run side by side.
    let concurrent: Bool
    /// How long a prediction waits for a model in use; 0 is for ever.
    let busySeconds: Double
    /// The synchronous call is for one thread at a time.
    let turn = NSLock()
    /// Pixel formats of the image inputs.
    let pixelFormats: [String: OSType]
    /// Data types of the multi-array outputs, as declared.
    let outputTypes: [String: Int]
    private let backingsLock = NSLock()
    private var backingsRefused = false

    init(_ model: MLModel, _ given: cmlb_configuration?) {
        self.model = model
        concurrent = given?.concurrent == 1
        busySeconds = given?.busy_seconds ?? 0
        let description = model.modelDescription
        pixelFormats = description.inputDescriptionsByName.compactMapValues { $0.imageConstraint?.pixelFormatType }
        outputTypes = description.outputDescriptionsByName.compactMapValues { $0.multiArrayConstraint?.dataType.rawValue }
        super.init(CMLB_HANDLE_MODEL)
    }

    /// Whether memory for outputs is offered to Core ML: until it turned out that this model cannot have it.
    var offersBackings: Bool {
        get {
            backingsLock.lock()
            defer { backingsLock.unlock() }
            return !backingsRefused
        }
        set {
            backingsLock.lock()
            backingsRefused = !newValue
            backingsLock.unlock()
        }
    }
}

@_cdecl("cmlb_model_compile")
public func cmlb_model_compile(
    _ path: UnsafePointer<CChar>?, _ timeout: Double, _ compiled: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?,
    _ error: UnsafeMutablePointer<cmlb_error>?
) -> Int32 {
    exported(error) {
        let compiled = try place(compiled, "the compiled model's path")
        compiled.pointee = nil
        let url = URL(fileURLWithPath: try text(path, "the path"))
        let answer = Answer<URL>(clearing: { url in try? FileManager.default.removeItem(at: url) })
        let result = try interval("compile") {
            try catchingExceptions {
                MLModel.compileModel(at: url, completionHandler: { result in answer.give(result) })
            }
            return try answer.wait(timeout, for: "compiling the model")
        }
        compiled.pointee = strdup(result.path)
    }
}

@_cdecl("cmlb_model_load")
public func cmlb_model_load(
    _ compiled: UnsafePointer<CChar>?, _ given: UnsafePointer<cmlb_configuration>?,
    _ model: UnsafeMutablePointer<OpaquePointer?>?, _ error: UnsafeMutablePointer<cmlb_error>?
) -> Int32 {
    exported(error) {
        let place = try place(model, "the model")
        place.pointee = nil
        let url = URL(fileURLWithPath: try text(compiled, "the path"))
        let settings = try configuration(given)
        let answer = Answer<MLModel>()
        let loaded = try interval("load") {
            try catchingExceptions {
                MLModel.load(
                    contentsOf: url, configuration: settings, completionHandler: { result in answer.give(result) })
            }
            return try answer.wait(given?.pointee.timeout_seconds ?? 0, for: "loading the model")
        }
        place.pointee = OpaquePointer(ModelBox(loaded, given?.pointee).retainedPointer())
    }
}

@_cdecl("cmlb_model_release")
public func cmlb_model_release(_ model: OpaquePointer?) {
    Handle.release(UnsafeMutableRawPointer(model))
}
