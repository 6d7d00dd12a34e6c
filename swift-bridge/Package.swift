// swift-tools-version:5.9
//
// The bridge between Core ML and Rust: one static library behind the C header Sources/CBridge/include/coreml_bridge.h.
//
// Package, product and module share one name, because that is what lets the static library be linked with any version of the
// Swift package manager. Where there is no Core ML, two modules under StandIn take the frameworks' names, so that every line
// of the bridge is compiled and driven there too; on Apple's systems they must not exist, since they would hide the frameworks.
import PackageDescription

var targets: [Target] = [.target(name: "CBridge")]
var dependencies: [Target.Dependency] = ["CBridge"]
var testDependencies: [Target.Dependency] = ["CoreMLBridge", "CBridge"]

#if canImport(Darwin)
targets += [.target(name: "CDarwin")]
dependencies += ["CDarwin"]
#else
targets += [
    .target(name: "CStandIn", dependencies: ["CBridge"], path: "StandIn/CStandIn"),
    .target(name: "CoreVideo", path: "StandIn/CoreVideo"),
    .target(name: "CoreML", dependencies: ["CoreVideo", "CStandIn", "CBridge"], path: "StandIn/CoreML"),
]
dependencies += ["CoreML", "CoreVideo"]
testDependencies += ["CoreML", "CStandIn"]
#endif

targets += [
    .target(name: "CoreMLBridge", dependencies: dependencies),
    .testTarget(name: "CoreMLBridgeTests", dependencies: testDependencies),
]

let package = Package(
    name: "CoreMLBridge",
    platforms: [.macOS(.v14), .iOS(.v17)],
    products: [.library(name: "CoreMLBridge", type: .static, targets: ["CoreMLBridge"])],
    targets: targets,
    swiftLanguageVersions: [.v5]
)
