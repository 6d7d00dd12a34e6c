//! Which models there are, and which of their versions are served.
//!
//! A new or changed version is loaded in the background. The previous one serves until it is ready, and goes on serving
//! if it cannot be loaded. Changes are made one after the other; predictions never wait for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde::Serialize;

use self::scan::{Found, Stamp};
use crate::config::Config;
use crate::refusal::{Refusal, Why};
use crate::version::Version;

mod scan;

/// The models of a server.
#[derive(Debug)]
pub(crate) struct Repository {
    config: Arc<Config>,
    models: RwLock<BTreeMap<String, Model>>,
    /// Held while versions are changed.
    changing: Mutex<BTreeMap<(String, u64), Stamp>>,
}

#[derive(Debug, Default)]
struct Model {
    /// A client has asked for it to be unloaded.
    unwanted: bool,
    versions: BTreeMap<u64, Slot>,
}

/// A version that is or was on disk.
#[derive(Debug)]
struct Slot {
    /// What was loaded, or tried.
    stamp: Stamp,
    serving: Option<Arc<Version>>,
    /// Why it is not served, or not in its newest form.
    problem: String,
}

/// A line of the index.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Indexed {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) state: &'static str,
    pub(crate) reason: String,
}

impl Repository {
    /// A repository that has nothing loaded yet.
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self { config, models: RwLock::default(), changing: Mutex::default() }
    }

    /// The version that answers; the newest if none is named.
    ///
    /// # Errors
    /// When there is no such model or version, or it is not ready.
    pub(crate) fn get(&self, name: &str, version: Option<&str>) -> Result<Arc<Version>, Refusal> {
        let models = self.models.read();
        let model =
            models.get(name).ok_or_else(|| Refusal::new(Why::Missing, format!("there is no model {name:?}")))?;
        let version = version.filter(|version| !version.is_empty());
        let Some(version) = version else {
            let newest = model.versions.values().rev().find_map(|slot| slot.serving.clone());
            return newest.ok_or_else(|| Refusal::new(Why::Unready, format!("the model {name:?} is not ready")));
        };
        let missing = || Refusal::new(Why::Missing, format!("the model {name:?} has no version {version:?}"));
        let slot = version.parse().ok().and_then(|number: u64| model.versions.get(&number)).ok_or_else(missing)?;
        let unready = || Refusal::new(Why::Unready, format!("version {version} of the model {name:?} is not ready"));
        slot.serving.clone().ok_or_else(unready)
    }

    /// The versions of a model that are served, oldest first.
    pub(crate) fn versions(&self, name: &str) -> Vec<String> {
        let models = self.models.read();
        let slots = models.get(name).into_iter().flat_map(|model| &model.versions);
        slots.filter(|(_, slot)| slot.serving.is_some()).map(|(number, _)| number.to_string()).collect()
    }

    /// All versions that are served.
    pub(crate) fn serving(&self) -> Vec<Arc<Version>> {
        let models = self.models.read();
        models.values().flat_map(|model| model.versions.values()).filter_map(|slot| slot.serving.clone()).collect()
    }

    /// Whether every model that is wanted has a version that is served.
    pub(crate) fn is_ready(&self) -> bool {
        let models = self.models.read();
        let mut wanted = models.values().filter(|model| !model.unwanted);
        wanted.all(|model| model.versions.values().any(|slot| slot.serving.is_some()))
    }

    /// Every version there is, by name and number.
    pub(crate) fn index(&self, ready_only: bool) -> Vec<Indexed> {
        let models = self.models.read();
        let lines = models.iter().flat_map(|(name, model)| {
            model.versions.iter().map(|(number, slot)| Indexed {
                name: name.clone(),
                version: number.to_string(),
                state: if slot.serving.is_some() { "READY" } else { "UNAVAILABLE" },
                reason: if model.unwanted { "unloaded".into() } else { slot.problem.clone() },
            })
        });
        lines.filter(|line| !ready_only || line.state == "READY").collect()
    }

    /// Loads versions that are new or changed and were the same at the last check, and unloads removed ones. Takes as long
    /// as loading does.
    pub(crate) fn refresh(&self) {
        let mut seen = self.changing.lock();
        let found = self.scan();
        for (name, versions) in &found {
            let settled = |number: u64, version: &Found| seen.get(&(name.clone(), number)) == Some(&version.stamp);
            self.update(name, versions, &settled);
        }
        let names: Vec<String> = self.models.read().keys().cloned().collect();
        names.iter().filter(|name| !found.contains_key(*name)).for_each(|name| {
            tracing::info!(target: "coreml::server", model = %name, "gone from the repository");
            self.models.write().remove(name);
        });
        let stamps = found.into_iter().flat_map(|(name, versions)| {
            versions.into_iter().map(move |(number, version)| ((name.clone(), number), version.stamp))
        });
        *seen = stamps.collect();
    }

    /// Loads everything there is, at once.
    pub(crate) fn load_all(&self) {
        let mut seen = self.changing.lock();
        for (name, versions) in self.scan() {
            self.update(&name, &versions, &|_, _| true);
            seen.extend(versions.into_iter().map(|(number, version)| ((name.clone(), number), version.stamp)));
        }
    }

    /// Loads the model `name` as it is now.
    ///
    /// # Errors
    /// When there is no such model, or no version of it could be loaded that is not served already.
    pub(crate) fn load(&self, name: &str) -> Result<(), Refusal> {
        let _changing = self.changing.lock();
        let found = self.scan();
        let versions = found
            .get(name)
            .ok_or_else(|| Refusal::new(Why::Missing, format!("the repository has no model {name:?}")))?;
        if let Some(model) = self.models.write().get_mut(name) {
            model.unwanted = false;
            // What failed before is tried again.
            model.versions.retain(|_, slot| slot.serving.is_some());
        }
        self.update(name, versions, &|_, _| true);
        let models = self.models.read();
        let slots = models.get(name).into_iter().flat_map(|model| &model.versions);
        match slots.rev().find(|(_, slot)| !slot.problem.is_empty()) {
            None => Ok(()),
            Some((number, slot)) => {
                let message = format!("version {number} of the model {name:?} cannot be loaded: {}", slot.problem);
                Err(Refusal::invalid(message))
            }
        }
    }

    /// Unloads the model `name`. Requests under way are answered.
    ///
    /// # Errors
    /// When there is no such model.
    pub(crate) fn unload(&self, name: &str) -> Result<(), Refusal> {
        let _changing = self.changing.lock();
        let mut models = self.models.write();
        let model =
            models.get_mut(name).ok_or_else(|| Refusal::new(Why::Missing, format!("there is no model {name:?}")))?;
        model.unwanted = true;
        let gone: Vec<_> = model.versions.values_mut().filter_map(|slot| slot.serving.take()).collect();
        drop(models);
        // Outside the lock, as the last one who holds it gives its memory back.
        drop(gone);
        tracing::info!(target: "coreml::server", model = %name, "unloaded");
        Ok(())
    }

    /// What there is on disk: the configuration's models and the repository's.
    fn scan(&self) -> BTreeMap<String, BTreeMap<u64, Found>> {
        let mut found = self.config.repository.as_deref().map(scan::folder).unwrap_or_default();
        if let (Some(name), 1) = (&self.config.only_name, found.len()) {
            found = found.into_values().map(|versions| (name.clone(), versions)).collect();
        }
        for (name, model) in &self.config.models {
            if let Some(path) = &model.path {
                found.insert(name.clone(), BTreeMap::from([(1, scan::single(path.clone()))]));
            }
        }
        found
    }

    /// Loads the newest versions of a model that are not yet served as they are on disk, and unloads older ones once
    /// enough newer ones are served.
    fn update(&self, name: &str, found: &BTreeMap<u64, Found>, settled: &dyn Fn(u64, &Found) -> bool) {
        let options = self.config.options(name);
        let most = if options.versions == 0 { usize::MAX } else { options.versions };
        if self.models.read().get(name).is_some_and(|model| model.unwanted) {
            return;
        }
        let wanted: Vec<_> = found.iter().rev().take(most).map(|(number, version)| (*number, version)).collect();
        for &(number, version) in wanted.iter().rev() {
            let known = self.models.read().get(name).and_then(|model| Some(model.versions.get(&number)?.stamp));
            if known == Some(version.stamp) || !settled(number, version) {
                continue;
            }
            let backends = self.config.backends.as_deref();
            let loaded = Version::load(name, number, &version.path, &options, backends);
            let mut models = self.models.write();
            let slots = &mut models.entry(name.to_owned()).or_default().versions;
            let before = slots.remove(&number).and_then(|slot| slot.serving);
            let (serving, problem) = match loaded {
                Ok(loaded) => {
                    tracing::info!(target: "coreml::server", model = %name, version = number, "ready");
                    (Some(Arc::new(loaded)), String::new())
                }
                Err(error) => {
                    tracing::error!(target: "coreml::server", model = %name, version = number, %error, "cannot be loaded");
                    (before.clone(), error.to_string())
                }
            };
            let slot = Slot { stamp: version.stamp, serving, problem };
            slots.insert(number, slot);
            drop(models);
            drop(before);
        }
        let mut gone = Vec::new();
        let mut models = self.models.write();
        if let Some(model) = models.get_mut(name) {
            let ready = |model: &Model| model.versions.values().filter(|slot| slot.serving.is_some()).count();
            while ready(model) > most.min(wanted.len().max(1)) {
                let oldest = model.versions.iter().find(|(_, slot)| slot.serving.is_some()).map(|(number, _)| *number);
                // Those that are gone from the disk go before those that are not.
                let lost =
                    model.versions.iter().find(|(number, slot)| slot.serving.is_some() && !found.contains_key(number));
                let Some(number) = lost.map(|(number, _)| *number).or(oldest) else { break };
                gone.extend(model.versions.remove(&number).and_then(|slot| slot.serving));
            }
            model.versions.retain(|number, slot| slot.serving.is_some() || found.contains_key(number));
        }
        drop(models);
        drop(gone);
    }
}
