// This process and machine: memory, heat, power, the system's build.

import CBridge
import CoreML
import Foundation

#if canImport(CDarwin)
import CDarwin
#endif

@_cdecl("cmlb_system_measure")
public func cmlb_system_measure(_ system: UnsafeMutablePointer<cmlb_system>?) -> Int32 {
    exported(nil) {
        let place = try place(system, "the measurements")
        var made = cmlb_system(
            physical_bytes: -1, physical_peak_bytes: -1, neural_bytes: -1, neural_peak_bytes: -1, thermal_state: -1,
            low_power_mode: -1)
        #if canImport(CDarwin)
        let memory = cmlb_darwin_measure()
        made.physical_bytes = memory.physical
        made.physical_peak_bytes = memory.physical_peak
        made.neural_bytes = memory.neural
        made.neural_peak_bytes = memory.neural_peak
        made.thermal_state = Int32(truncatingIfNeeded: ProcessInfo.processInfo.thermalState.rawValue)
        made.low_power_mode = ProcessInfo.processInfo.isLowPowerModeEnabled ? 1 : 0
        #else
        // These ledgers are the Apple kernel's. The stand-in can be told to report a Neural Engine's.
        if let staged = StandIn.neuralBytes {
            made.neural_bytes = staged
            made.neural_peak_bytes = staged
        }
        #endif
        place.pointee = made
    }
}

@_cdecl("cmlb_system_build")
public func cmlb_system_build(_ text: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> Int32 {
    exported(nil) {
        // Names the build: "Version 15.5 (Build 24F74)".
        try place(text, "the text").pointee = strdup(ProcessInfo.processInfo.operatingSystemVersionString)
    }
}
