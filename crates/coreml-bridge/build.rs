//! Links the Swift bridge where there is something to link it with, and says so by the cfg `bridge_linked`.
//!
//! - Apple targets with the feature `coreml`: the Swift package is built by `swift-rs`, against the system's Core ML. When
//!   checking from another system there is no Swift to build it with: the Rust code is still checked, and only linking would
//!   fail.
//! - Linux with the feature `stand-in`: the package is built by `swift build`, against the stand-in for Core ML beside it.
//! - Anything else: nothing is linked, and the backend reports itself unavailable.

#[cfg(feature = "stand-in")]
mod stand_in {
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::{env, fs};

    /// Swift's own libraries that a program with Foundation and tasks needs.
    const SWIFT: [&str; 16] = [
        "swiftCore",
        "swift_Concurrency",
        "swift_StringProcessing",
        "swift_RegexParser",
        "swiftDispatch",
        "dispatch",
        "BlocksRuntime",
        "Foundation",
        "FoundationEssentials",
        "FoundationInternationalization",
        "CoreFoundation",
        "_FoundationICU",
        "_FoundationCShims",
        "_FoundationCollections",
        "swiftSynchronization",
        "swiftGlibc",
    ];

    fn output(command: &mut Command) -> String {
        let told = "the feature `stand-in` needs a Swift toolchain; `scripts/swift-toolchain run` has one";
        let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}; {told}"));
        assert!(
            output.status.success(),
            "{command:?} failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Builds the package and links it statically, Swift's run time included, so that test programs need no search path.
    pub(super) fn link(package: &str) {
        let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
        let swift_build = |extra: &[&str]| {
            let mut command = Command::new("swift");
            command.args(["build", "-c", "release", "--package-path", package, "--product", "CoreMLBridge"]);
            command.args(["--static-swift-stdlib", "-Xswiftc", "-warnings-as-errors", "--scratch-path"]);
            command.arg(out.join("swift")).args(extra);
            output(&mut command)
        };
        swift_build(&[]);
        let built = PathBuf::from(swift_build(&["--show-bin-path"]));
        let info = output(Command::new("swiftc").arg("-print-target-info"));
        let key = "\"runtimeResourcePath\": \"";
        let resources = info.split_once(key).and_then(|(_, rest)| rest.split_once('"')).map(|(path, _)| path);
        let resources = resources.expect("swiftc tells where its resources are");
        let libraries = Path::new(&format!("{resources}_static")).join("linux");
        let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
        // This object registers the metadata of Swift types; without it a program crashes at its first cast to a protocol.
        let archive = out.join("libCoreMLBridgeStandIn.a");
        fs::copy(built.join("libCoreMLBridge.a"), &archive).expect("the archive was built");
        output(Command::new("ar").arg("r").arg(&archive).arg(libraries.join(arch).join("swiftrt.o")));
        println!("cargo::rustc-link-search=native={}", out.display());
        println!("cargo::rustc-link-lib=static:+whole-archive=CoreMLBridgeStandIn");
        println!("cargo::rustc-link-search=native={}", libraries.display());
        for library in SWIFT {
            println!("cargo::rustc-link-lib=static:-bundle={library}");
        }
        for library in ["stdc++", "m", "dl", "pthread"] {
            println!("cargo::rustc-link-lib=dylib={library}");
        }
        println!("cargo::rustc-cfg=bridge_linked");
    }
}

/// The Swift package, from this crate's folder, where cargo runs this program.
const PACKAGE: &str = "../../swift-bridge";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(bridge_linked, planted_type_error)");
    for part in ["Package.swift", "Sources", "StandIn"] {
        println!("cargo::rerun-if-changed={PACKAGE}/{part}");
    }
    // Lets `scripts/darwin-check` see that it would find an error.
    println!("cargo::rerun-if-env-changed=COREML_PLANTED_TYPE_ERROR");
    if std::env::var_os("COREML_PLANTED_TYPE_ERROR").is_some() {
        println!("cargo::rustc-cfg=planted_type_error");
    }
    let apple = std::env::var("CARGO_CFG_TARGET_VENDOR").as_deref() == Ok("apple");
    #[cfg(feature = "coreml")]
    if apple {
        darwin();
    }
    #[cfg(feature = "stand-in")]
    if !apple {
        stand_in::link(PACKAGE);
    }
    let _ = apple;
}

#[cfg(feature = "coreml")]
fn darwin() {
    if cfg!(target_vendor = "apple") {
        swift_rs::SwiftLinker::new("14.0").with_ios("17.0").with_package("CoreMLBridge", PACKAGE).link();
    } else {
        println!("cargo::warning=Apple's systems are checked from here, not linked: there is no Swift for them");
    }
    for framework in ["CoreML", "CoreVideo", "Foundation", "IOSurface", "Metal"] {
        println!("cargo::rustc-link-lib=framework={framework}");
    }
    println!("cargo::rustc-cfg=bridge_linked");
}
