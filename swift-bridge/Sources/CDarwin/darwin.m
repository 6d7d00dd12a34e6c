#import "coreml_bridge_darwin.h"

#include <TargetConditionals.h>
#include <mach/mach.h>
#include <unistd.h>
#if TARGET_OS_OSX
#include <libproc.h>
#include <sys/resource.h>
#endif

NSException *_Nullable cmlb_darwin_try(void (NS_NOESCAPE ^body)(void)) {
    @try {
        body();
        return nil;
    } @catch (NSException *exception) {
        return exception;
    }
}

cmlb_darwin_memory cmlb_darwin_measure(void) {
    cmlb_darwin_memory memory = {-1, -1, -1, -1};
    task_vm_info_data_t info;
    mach_msg_type_number_t count = TASK_VM_INFO_COUNT;
    if (task_info(mach_task_self(), TASK_VM_INFO, (task_info_t)&info, &count) == KERN_SUCCESS) {
        memory.physical = (int64_t)info.phys_footprint;
    }
#if TARGET_OS_OSX && defined(RUSAGE_INFO_V6)
    struct rusage_info_v6 usage;
    if (proc_pid_rusage(getpid(), RUSAGE_INFO_V6, (rusage_info_t *)&usage) == 0) {
        memory.physical = (int64_t)usage.ri_phys_footprint;
        memory.physical_peak = (int64_t)usage.ri_lifetime_max_phys_footprint;
        memory.neural = (int64_t)usage.ri_neural_footprint;
        memory.neural_peak = (int64_t)usage.ri_lifetime_max_neural_footprint;
    }
#endif
    return memory;
}
