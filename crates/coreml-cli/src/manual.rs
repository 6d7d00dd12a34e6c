//! `coreml completions` and `coreml man`: shell completions and manual pages of the command.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::failure::Failure;

/// Print what a shell needs to complete this command's arguments
///
/// For instance `coreml completions bash > ~/.local/share/bash-completion/completions/coreml`, or in `~/.zshrc`
/// `source <(coreml completions zsh)`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Write manual pages, one for each subcommand
///
/// Then `man -l FOLDER/coreml.1` shows the first; `~/.local/share/man/man1` is a folder where `man coreml` finds them.
#[derive(Debug, Args)]
pub(crate) struct Pages {
    /// Where to; made if it does not exist
    folder: PathBuf,
}

pub(crate) fn complete(arguments: &Completions, command: &mut Command, out: &mut impl Write) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "coreml", &mut script);
    Ok(out.write_all(&script)?)
}

pub(crate) fn pages(arguments: &Pages, command: Command) -> Result<(), Failure> {
    let folder = &arguments.folder;
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
    written.map_err(|error| Failure::file(format!("cannot write manual pages to {}", folder.display()), error))
}
