/* Preloaded into a program, answers its CPUID instructions as if the hypervisor did not hide AVX512_BF16.
 *
 * Some clouds mask features that the processor has: its instructions then execute, but nobody uses them. Linux can make
 * CPUID trap (arch_prctl(ARCH_SET_CPUID, 0), x86-64), and the trap's handler answers. Before it does, VDPBF16PS is tried
 * once: a process on a processor without it ends with status 3. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { ARCH_SET_CPUID = 0x1012, FEATURES = 7, BF16_BIT = 5, NOT_HERE = 3 };

static sigjmp_buf before_trial;

static void unknown(int signal) {
    (void)signal;
    siglongjmp(before_trial, 1);
}

/* A system call without libc: errno is the interrupted program's. */
static long let_cpuid_through(long yes) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(SYS_arch_prctl), "D"((long)ARCH_SET_CPUID), "S"(yes)
                     : "rcx", "r11", "memory");
    return result;
}

static void answer(int number, siginfo_t *info, void *context) {
    (void)info;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *instruction = (const uint8_t *)registers[REG_RIP];
    if (instruction[0] != 0x0f || instruction[1] != 0xa2) {
        /* Not CPUID: a true fault, which happens again without this handler. */
        signal(number, SIG_DFL);
        return;
    }
    uint32_t leaf = (uint32_t)registers[REG_RAX], part = (uint32_t)registers[REG_RCX], a, b, c, d;
    let_cpuid_through(1);
    __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(leaf), "c"(part));
    let_cpuid_through(0);
    if (leaf == FEATURES && part == 0 && a < 1) a = 1; /* there is a part 1 */
    if (leaf == FEATURES && part == 1) a |= 1u << BF16_BIT;
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void) {
    void (*previous)(int) = signal(SIGILL, unknown);
    if (sigsetjmp(before_trial, 1)) {
        static const char words[] = "this processor has no VDPBF16PS\n";
        (void)!write(STDERR_FILENO, words, sizeof words - 1);
        _exit(NOT_HERE);
    }
    __asm__ volatile(".byte 0x62, 0xf2, 0x76, 0x48, 0x52, 0xc1" ::: "xmm0"); /* vdpbf16ps zmm0, zmm1, zmm1 */
    signal(SIGILL, previous);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigaction(SIGSEGV, &action, 0);
    if (let_cpuid_through(0) != 0) {
        static const char words[] = "CPUID cannot be made to trap here\n";
        (void)!write(STDERR_FILENO, words, sizeof words - 1);
        _exit(NOT_HERE);
    }
}
