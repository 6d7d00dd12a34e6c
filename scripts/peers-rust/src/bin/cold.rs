//! Starts a command and prints how long it took until its first output, and its peak memory: `COMMAND [ARGUMENT…]`.
//!
//! The time is from before the process is started to the first byte on its standard output. The peak is the kernel's
//! figure for the ended child (`ru_maxrss`), which on Linux is at least the memory of the starting process. That is why
//! this small program starts the command, and not the script.

use std::io::{BufReader, Read};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use peers_rust::main_with;

fn main() -> ExitCode {
    main_with(|| {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [program, rest @ ..] = arguments.as_slice() else { return Err("a command is wanted".into()) };
        let start = Instant::now();
        let mut child = Command::new(program).args(rest).stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        let said = output.read_exact(&mut [0u8]);
        let first_ms = start.elapsed().as_secs_f64() * 1e3;
        std::io::copy(&mut output, &mut std::io::sink())?;
        let status = child.wait()?;
        if !status.success() || said.is_err() {
            return Err(format!("{program} ended with {status}").into());
        }
        println!("{{\"first_ms\": {first_ms}, \"peak_kib\": {}}}", children_peak_kib());
        Ok(())
    })
}

/// Peak resident memory of the largest ended child.
fn children_peak_kib() -> i64 {
    // SAFETY: rusage is plain numbers, for which zeroes are values, and getrusage writes only into it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage);
        usage
    };
    usage.ru_maxrss
}
