//! `coreml serve`: models behind the Open Inference Protocol.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use coreml_server::{Config, Server};

use crate::failure::Failure;

/// Serve models by the Open Inference Protocol, over HTTP and gRPC
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Models to serve: files and folders, each by its name or as NAME=PATH
    models: Vec<String>,
    /// A folder of models, with a folder for each version of each or not
    #[arg(long, value_name = "DIR")]
    repository: Option<PathBuf>,
    /// What to do, as a file; flags come before it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, for HTTP and gRPC; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT")]
    address: Option<SocketAddr>,
    /// The port, on the address that is told or else on the loopback
    #[arg(long, conflicts_with = "address")]
    port: Option<u16>,
    /// The name to serve the repository's only model by
    #[arg(long, requires = "repository")]
    name: Option<String>,
    /// Predictions of a model at once
    #[arg(long, value_name = "N")]
    instances: Option<usize>,
    /// Threads of one prediction; 0 for as many as there are processors
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// The most elements of a batch that requests are put together to
    #[arg(long, value_name = "N")]
    max_batch: Option<usize>,
    /// Clients must send the token in the first line of this file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Log each request as a line of JSON
    #[arg(long)]
    access_log: bool,
    /// Print what would be done, as a file for --config, and end
    #[arg(long)]
    print_config: bool,
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    let config = arguments.config()?;
    if arguments.print_config {
        let text = config.to_toml().map_err(|error| Failure::usage(error.to_string()))?;
        return Ok(out.write_all(text.as_bytes())?);
    }
    if config.repository.is_none() && config.models.values().all(|model| model.path.is_none()) {
        return Err(Failure::usage("nothing to serve: name a model, or a folder of models with --repository"));
    }
    let server = Server::start(config).map_err(|error| Failure::file("the server cannot start", error))?;
    writeln!(out, "serving on http://{}", server.address())?;
    for (model, problem) in server.problems() {
        writeln!(out, "not served: {model}: {problem}")?;
    }
    out.flush()?;
    if server.run_until_signal() {
        return Ok(());
    }
    Err(Failure::different("requests were given up, as they were not answered in time"))
}

impl Arguments {
    /// The file's configuration with what the flags say instead.
    fn config(&self) -> Result<Config, Failure> {
        let read = |path: &Path| Config::read(path).map_err(|error| Failure::usage(error.to_string()));
        let mut config = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        for model in &self.models {
            let (name, path) = named(model)?;
            config = config.model(name, path);
        }
        config.repository = self.repository.clone().or(config.repository);
        config.token_file = self.token_file.clone().or(config.token_file);
        config.access_log |= self.access_log;
        config.address = self.address.unwrap_or(config.address);
        if let Some(port) = self.port {
            config.address.set_port(port);
        }
        let defaults = &mut config.defaults;
        for (given, option) in [
            (self.instances, &mut defaults.instances),
            (self.threads, &mut defaults.threads),
            (self.max_batch, &mut defaults.max_batch),
        ] {
            *option = given.unwrap_or(*option);
        }
        config.only_name = self.name.clone().or(config.only_name);
        Ok(config)
    }
}

/// A model's name and path: `NAME=PATH`, or a path whose file name is the name.
fn named(text: &str) -> Result<(String, PathBuf), Failure> {
    if let Some((name, path)) = text.split_once('=').filter(|(name, _)| !name.contains(['/', '\\'])) {
        return Ok((name.to_owned(), path.into()));
    }
    let path = PathBuf::from(text);
    let name = path.file_stem().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Failure::usage(format!("{text} has no name; give it one: NAME={text}")))?;
    Ok((name.to_owned(), path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn config(words: &[&str]) -> Result<Config, String> {
        let words = [&["serve"], words].concat();
        let command = Command::try_parse_from(words).map_err(|error| error.to_string())?;
        command.arguments.config().map_err(|failure| failure.to_string())
    }

    #[test]
    fn flags_come_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("serve.toml");
        std::fs::write(&file, "address = \"127.0.0.1:9000\"\naccess_log = true\n[defaults]\nthreads = 3\nqueue = 7\n")
            .unwrap();
        let file = file.to_str().unwrap();
        let told =
            config(&["--config", file, "--threads", "1", "--port", "0", "a/b.mlpackage", "c=d/e.mlmodel"]).unwrap();
        assert_eq!((told.defaults.threads, told.defaults.queue, told.access_log), (1, 7, true));
        assert_eq!(told.address, "127.0.0.1:0".parse().unwrap());
        let models: Vec<_> =
            told.models.iter().map(|(name, model)| (name.as_str(), model.path.clone().unwrap())).collect();
        assert_eq!(models, [("b", "a/b.mlpackage".into()), ("c", "d/e.mlmodel".into())]);
        assert!(config(&["--name", "x"]).is_err() && config(&["--config", "nowhere.toml"]).is_err());
    }
}
