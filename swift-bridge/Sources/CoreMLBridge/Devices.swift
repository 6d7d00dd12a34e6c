// The compute devices of this machine.

import CBridge
import CoreML
import Foundation

/// The number of a device; that for unknown ones where a newer system has kinds of its own.
func device(_ device: MLComputeDevice) -> Int32 {
    switch device {
    case .cpu: return CMLB_DEVICE_CPU
    case .gpu: return CMLB_DEVICE_GPU
    case .neuralEngine: return CMLB_DEVICE_NEURAL_ENGINE
    @unknown default: return CMLB_DEVICE_UNKNOWN
    }
}

@_cdecl("cmlb_device_list")
public func cmlb_device_list(
    _ devices: UnsafeMutablePointer<cmlb_device>?, _ capacity: Int, _ count: UnsafeMutablePointer<Int>?,
    _ error: UnsafeMutablePointer<cmlb_error>?
) -> Int32 {
    exported(error) {
        let count = try place(count, "the number of devices")
        _ = try list(devices, capacity, "the devices")
        let (all, usable) = try catchingExceptions {
            (MLComputeDevice.allComputeDevices, MLModel.availableComputeDevices)
        }
        count.pointee = all.count
        for (i, found) in all.prefix(capacity).enumerated() {
            var made = cmlb_device()
            made.kind = device(found)
            if case .neuralEngine(let engine) = found {
                made.core_count = Int32(truncatingIfNeeded: engine.totalCoreCount)
            }
            made.usable = usable.contains(found) ? 1 : 0
            devices?[i] = made
        }
    }
}
