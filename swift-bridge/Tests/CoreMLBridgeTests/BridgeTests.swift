// The exports, called through the header as C code would call them.

import CBridge
import CStandIn
import XCTest

final class BridgeTests: XCTestCase {
    private var folder = URL(fileURLWithPath: NSTemporaryDirectory()).appendingPathComponent(UUID().uuidString)

    override func setUpWithError() throws {
        installDoublingEngine()
        cmlb_standin_stage(nil)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try Data("model".utf8).write(to: folder.appendingPathComponent("m.mlmodel"))
    }

    override func tearDownWithError() throws {
        cmlb_standin_stage(nil)
        try FileManager.default.removeItem(at: folder)
        for kind in 0..<CMLB_HANDLE_KINDS { XCTAssertEqual(cmlb_handle_count(kind), 0, "handles of kind \(kind)") }
    }

    private func stage(_ set: (inout cmlb_standin_faults) -> Void) {
        var faults = cmlb_standin_faults()
        set(&faults)
        cmlb_standin_stage(&faults)
    }

    private func compile() throws -> String {
        var error = cmlb_error()
        var compiled: UnsafeMutablePointer<CChar>?
        XCTAssertEqual(cmlb_model_compile(folder.appendingPathComponent("m.mlmodel").path, 5, &compiled, &error), CMLB_OK)
        defer { cmlb_text_release(compiled) }
        return String(cString: try XCTUnwrap(compiled))
    }

    private func load(_ configuration: cmlb_configuration = defaults) throws -> OpaquePointer {
        var error = cmlb_error()
        var model: OpaquePointer?
        var configuration = configuration
        XCTAssertEqual(cmlb_model_load(try compile(), &configuration, &model, &error), CMLB_OK)
        return try XCTUnwrap(model)
    }

    private static var defaults: cmlb_configuration {
        var configuration = cmlb_configuration()
        configuration.compute_units = 2
        configuration.reshape_frequency = -1
        configuration.specialization_strategy = -1
        return configuration
    }

    private static let shape: [Int64] = [3, 5]

    /// Asks for `y` in the caller's memory; gives the status, how `y` came, and `y`.
    private func predict(
        _ model: OpaquePointer?, strides: [Int64]? = nil, error: inout cmlb_error
    ) -> (status: Int32, came: Int32, y: [Float]) {
        var x = (0..<64).map { Float($0) }
        var y = [Float](repeating: -1, count: 15)
        var came: Int32 = -1
        var rest: OpaquePointer?
        let status = x.withUnsafeMutableBytes { x in
            y.withUnsafeMutableBytes { y in
                Self.shape.withUnsafeBufferPointer { shape in
                    (strides ?? []).withUnsafeBufferPointer { strides in
                        var input = cmlb_value()
                        input.kind = CMLB_KIND_ARRAY
                        input.type = CMLB_TYPE_FLOAT32
                        input.data = x.baseAddress
                        input.byte_count = x.count
                        input.shape = shape.baseAddress
                        input.strides = strides.isEmpty ? nil : strides.baseAddress
                        input.rank = 2
                        var output = cmlb_output()
                        output.data = y.baseAddress
                        output.byte_count = y.count
                        output.shape = shape.baseAddress
                        output.rank = 2
                        output.type = CMLB_TYPE_FLOAT32
                        return "x".withCString { xName in
                            "y".withCString { yName in
                                input.name = xName
                                output.name = yName
                                let status = cmlb_model_predict(model, nil, &input, 1, &output, 1, &rest, &error)
                                came = output.came
                                return status
                            }
                        }
                    }
                }
            }
        }
        cmlb_prediction_release(rest)
        return (status, came, y)
    }

    func testOutputsComeInPlaceOrCopied() throws {
        let model = try load()
        defer { cmlb_model_release(model) }
        var error = cmlb_error()
        let doubled = (0..<15).map { Float(2 * $0) }
        var answer = predict(model, error: &error)
        XCTAssertEqual(answer.status, CMLB_OK)
        XCTAssertEqual(answer.came, CMLB_OUTPUT_IN_PLACE)
        XCTAssertEqual(answer.y, doubled)
        for set in [
            { (faults: inout cmlb_standin_faults) in faults.ignored_backings = 1 },
            { faults in faults.padded_rows = 1 },
        ] {
            stage(set)
            answer = predict(model, error: &error)
            XCTAssertEqual(answer.status, CMLB_OK)
            XCTAssertEqual(answer.came, CMLB_OUTPUT_COPIED)
            XCTAssertEqual(answer.y, doubled)
        }
        stage { $0.half_outputs = 1 }
        answer = predict(model, error: &error)
        XCTAssertEqual(answer.came, CMLB_OUTPUT_ELSEWHERE, "another type is not written over the wanted one")
    }

    func testStridesOfInputsAreHonoured() throws {
        let model = try load()
        defer { cmlb_model_release(model) }
        var error = cmlb_error()
        let answer = predict(model, strides: [10, 2], error: &error)
        XCTAssertEqual(answer.y, (0..<3).flatMap { row in (0..<5).map { Float(2 * (10 * row + 2 * $0)) } })
        // Beyond the memory, or backwards: told, not read.
        for strides: [Int64] in [[60, 1], [-1, 1], [Int64.max, 1]] {
            XCTAssertEqual(predict(model, strides: strides, error: &error).status, CMLB_INVALID_ARGUMENT)
            XCTAssertNotNil(error.message)
            cmlb_error_clear(&error)
            XCTAssertNil(error.message)
        }
    }

    func testErrorsCarryTheOneUnderneath() throws {
        let model = try load()
        defer { cmlb_model_release(model) }
        stage {
            $0.predict_error = 1
            $0.underlying_errors = 1
        }
        var error = cmlb_error()
        XCTAssertEqual(predict(model, error: &error).status, CMLB_ERROR)
        XCTAssertEqual(String(cString: try XCTUnwrap(error.domain)), "com.apple.CoreML")
        XCTAssertEqual(error.underlying_code, 13)
        XCTAssertEqual(String(cString: try XCTUnwrap(error.underlying_domain)), "com.apple.appleneuralengine")
        cmlb_error_clear(&error)
    }

    func testNullsAndWrongHandlesAreTold() throws {
        var error = cmlb_error()
        XCTAssertEqual(predict(nil, error: &error).status, CMLB_INVALID_ARGUMENT)
        XCTAssertEqual(cmlb_model_load(nil, nil, nil, &error), CMLB_INVALID_ARGUMENT)
        XCTAssertEqual(cmlb_state_make(nil, nil, nil), CMLB_INVALID_ARGUMENT)
        let model = try load()
        var state: OpaquePointer?
        XCTAssertEqual(cmlb_state_make(model, &state, &error), CMLB_OK)
        XCTAssertEqual(predict(state, error: &error).status, CMLB_INVALID_ARGUMENT, "a state is no model")
        cmlb_model_release(nil)
        cmlb_state_release(state)
        cmlb_model_release(model)
        var configuration = Self.defaults
        configuration.compute_units = 9
        var none: OpaquePointer?
        XCTAssertEqual(cmlb_model_load(try compile(), &configuration, &none, &error), CMLB_INVALID_ARGUMENT)
        XCTAssertNil(none)
        cmlb_error_clear(&error)
    }

    func testDeadlines() throws {
        var error = cmlb_error()
        stage { $0.compile_seconds = 1 }
        var compiled: UnsafeMutablePointer<CChar>?
        let path = folder.appendingPathComponent("m.mlmodel").path
        XCTAssertEqual(cmlb_model_compile(path, 0.05, &compiled, &error), CMLB_TIMEOUT)
        XCTAssertNil(compiled)
        stage { $0.load_seconds = 1 }
        var configuration = Self.defaults
        configuration.timeout_seconds = 0.05
        var model: OpaquePointer?
        XCTAssertEqual(cmlb_model_load(try self.compile(), &configuration, &model, &error), CMLB_TIMEOUT)
        cmlb_error_clear(&error)
        // What was begun is cleared away when it ends.
        Thread.sleep(forTimeInterval: 1.5)
        XCTAssertEqual(cmlb_standin_observe(CMLB_STANDIN_MODELS), 0)
    }

    func testThePlanIsTold() throws {
        var configuration = Self.defaults
        var plan: UnsafePointer<cmlb_plan>?
        XCTAssertEqual(cmlb_plan_load(try compile(), &configuration, &plan, nil), CMLB_OK)
        let told = try XCTUnwrap(plan).pointee
        XCTAssertEqual(told.operation_count, 1)
        XCTAssertEqual(told.operations[0].preferred, CMLB_DEVICE_NEURAL_ENGINE)
        XCTAssertEqual(told.operations[0].supported, 5)
        cmlb_plan_release(plan)
    }
}
