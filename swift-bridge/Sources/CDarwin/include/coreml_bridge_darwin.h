/* What only C and Objective-C can do on Apple's systems: catch an exception, read the kernel's ledgers. */
#ifndef COREML_BRIDGE_DARWIN_H
#define COREML_BRIDGE_DARWIN_H

#import <Foundation/Foundation.h>
#include <stdint.h>

NS_ASSUME_NONNULL_BEGIN

/* Runs `body` and gives the exception it threw, if it threw one. */
NSException *_Nullable cmlb_darwin_try(void (NS_NOESCAPE ^body)(void));

/* Bytes of this process; -1 where the system does not tell. */
typedef struct cmlb_darwin_memory {
    int64_t physical;
    int64_t physical_peak;
    int64_t neural;
    int64_t neural_peak;
} cmlb_darwin_memory;

cmlb_darwin_memory cmlb_darwin_measure(void);

NS_ASSUME_NONNULL_END
#endif
