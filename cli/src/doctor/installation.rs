//! The checks of Nix, the plugin, its settings and the daemon.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix_negative_cache_core::time_text::moment;
use nix_version::Flavour;

use super::facts::{CacheFacts, Facts, PluginFile, Role, StoreFacts, unknown_settings};
use super::repair::Repair;
use super::{Finding, user_name};
use crate::nix::NixError;
use crate::output::zone;

/// With what to do after each change of what the daemon reads and loads when it starts.
fn restart(finding: Finding) -> Finding {
    finding.advice("nix-daemon reads nix.conf and loads plugins only when it starts:  systemctl restart nix-daemon")
}

/// What a program of Nix said last that was an error, without what else it had to say.
fn said(error: &NixError) -> String {
    let text = error.to_string();
    let error = text.lines().rev().find_map(|line| line.split_once("error: "));
    error.map_or_else(|| text.clone(), |(_, error)| error.to_owned())
}

/// A finding whose advice is to edit nix.conf, with what has to be done then if there is a daemon.
fn edits_nix_conf(facts: &Facts, finding: Finding) -> Finding {
    if facts.any_daemon().is_none() {
        return finding;
    }
    finding.advice("If that is the nix.conf of nix-daemon, restart it afterwards:  systemctl restart nix-daemon")
}

/// Whether there is a Nix that starts.
pub fn check_nix(facts: &Facts) -> Vec<Finding> {
    let nix = &facts.nix;
    let Some(program) = &nix.program else {
        return vec![
            Finding::problem("There is no 'nix' in PATH").advice("Nothing but the databases can be looked at."),
        ];
    };
    let version = nix.version.as_ref().map_or("Nix".to_owned(), ToString::to_string);
    let Err(error) = &nix.configuration else {
        let user = user_name(facts.user);
        return vec![Finding::ok(format!("{version} is '{}', run by {user}", program.display()))];
    };
    let problem = Finding::problem(format!("{version}, '{}', does not start", program.display()))
        .advice(format!("It says: {}", said(error)));
    if !nix.starts_without_plugins {
        return vec![problem];
    }
    let problem = if error.to_string().contains("plugin file") || !error.to_string().contains("negative-cache-") {
        problem
            .advice(
                "It starts without what 'plugin-files' in nix.conf names: each must be there and fit this very Nix.",
            )
            .advice("Build the plugin for this Nix, or take it out of 'plugin-files'.")
    } else {
        problem.advice("Correct the setting in nix.conf or in NIX_CONFIG; the manual has the values that it can have.")
    };
    vec![edits_nix_conf(facts, problem)]
}

/// Whether Nix loads the plugin.
pub fn check_plugin(facts: &Facts) -> Vec<Finding> {
    let nix = &facts.nix;
    let Ok(configuration) = &nix.configuration else { return Vec::new() };
    let files: Vec<String> = nix.plugins.iter().map(|file| format!("'{}'", file.display())).collect();
    let files = files.join(" and ");
    if nix.loads_plugin() {
        let mut findings = vec![Finding::ok(format!("This Nix loads the plugin: {files}"))];
        findings.extend(nix.loaders.iter().map(|(_, installation)| Finding::ok(installation.what_it_has())));
        return findings;
    }
    if files.is_empty() {
        let advice = "To have it load the plugin, add  plugin-files = /path/to/libnix_negative_cache.so  to nix.conf.";
        return vec![if facts.daemon_has_plugin_on() {
            Finding::ok("This Nix does not load the plugin; that of the daemon is enough")
        } else {
            edits_nix_conf(facts, Finding::problem("This Nix does not load the plugin").advice(advice))
        }];
    }
    if let (Ok(version), [(loader, _)]) = (&nix.version, nix.loaders.as_slice())
        && version.flavour == Flavour::Lix
    {
        let problem = Finding::problem(format!("There is no plugin for {version}, which is not supported"));
        let problem = problem.advice(format!("Take '{}' out of 'plugin-files'.", loader.display()));
        return vec![edits_nix_conf(facts, problem)];
    }
    if let (Ok(version), [(loader, installation)]) = (&nix.version, nix.loaders.as_slice())
        && installation.plugin(version).is_none()
    {
        let problem = Finding::problem(format!("There is no plugin for {version}"));
        let problem = problem.advice(format!("{}.", installation.what_it_has())).advice(format!(
            "Install the plugin for this Nix there, or take '{}' out of 'plugin-files'.",
            loader.display()
        ));
        return vec![edits_nix_conf(facts, problem)];
    }
    let problem = Finding::problem(format!("This Nix does not load the plugin, although 'plugin-files' has {files}"));
    let said: Vec<&str> = configuration.said.lines().filter(|line| line.contains("plugin")).collect();
    vec![match said.as_slice() {
        [] => problem.advice("It says nothing about it; is that file the plugin?"),
        said => said.iter().fold(problem, |problem, line| problem.advice(format!("It says: {line}"))).advice(
            "A plugin fits the Nix only that it was built for: build it again with the development files of this one.",
        ),
    }]
}

/// Whether the plugin's files are such that everybody who is meant to can load them, and nobody can change them.
pub fn check_plugin_files(facts: &Facts) -> Vec<Finding> {
    let files = facts.nix.plugins.iter().cloned().chain(facts.nix.opened_plugins());
    files.flat_map(|path| check_plugin_file(facts, &path)).collect()
}

fn check_plugin_file(facts: &Facts, path: &Path) -> Vec<Finding> {
    let name = path.display();
    let file = match PluginFile::look(path) {
        Ok(file) => file,
        Err(error) => return vec![Finding::problem(format!("The plugin '{name}' can't be looked at: {error}"))],
    };
    let mode = file.metadata.mode() & 0o777;
    let may = facts.user == 0 || facts.user == file.metadata.uid();
    let owner = user_name(file.metadata.uid());
    let repair = |mode| Repair::Correct { path: fs::canonicalize(path).unwrap_or(path.into()), mode, owner: None };
    let mut findings = Vec::new();
    if file.others_write {
        let problem = Finding::problem(format!("Others than {owner} can change the plugin '{name}' (mode {mode:04o})"))
            .advice("Whatever they put there would run in the Nix of everybody who loads it.");
        let by_its_mode = mode & 0o022 != 0;
        let advice = format!("As {owner}, run  chmod go-w {name}  and see that its folder can't be written to by all.");
        findings.push(problem.repaired_by(repair(mode & !0o022 | 0o004), may && by_its_mode, advice));
    }
    if !file.everybody_reads && file.metadata.uid() == 0 {
        let what = format!("Not everybody can read the plugin '{name}' (mode {mode:04o})");
        // The users of a daemon mostly have the nix.conf that the daemon has.
        let finding = if facts.any_daemon().is_some() { Finding::problem(what) } else { Finding::note(what) };
        let finding = finding.advice("With the nix.conf that names it, the Nix of those who can't does not start.");
        let by_its_mode = mode & 0o004 == 0;
        let advice = format!("See that everybody may read it and enter the folders above, as with  namei -l {name}");
        findings.push(finding.repaired_by(repair(mode & !0o022 | 0o044), may && by_its_mode, advice));
    }
    findings
}

/// Whether the binary caches that are asked for failures carry any. Keys that are none keep the plugin from starting, which
/// [`check_settings`] finds.
pub fn check_caches(facts: &Facts) -> Vec<Finding> {
    let Some(Ok(settings)) = facts.nix.settings() else { return Vec::new() };
    if !settings.enabled || settings.trusted_public_keys.is_empty() {
        return Vec::new();
    }
    if facts.caches.is_empty() {
        let note =
            Finding::note("Keys of others are trusted, but there is no binary cache that could be asked for failures");
        return vec![note.advice("Name one in 'negative-cache-substituters' or 'substituters'.")];
    }
    let finding = |cache: &CacheFacts| {
        let url = &cache.url;
        match &cache.has_marker {
            Ok(true) => Finding::ok(format!("The binary cache '{url}' carries failures")),
            Ok(false) => Finding::note(format!("The binary cache '{url}' carries no failures"))
                .advice("It does once somebody has published one there:  nix-negative-cache publish"),
            Err(error) => Finding::note(format!("The binary cache '{url}' can't be asked for failures"))
                .advice(format!("It says: {}", said(error))),
        }
    };
    let mut findings: Vec<Finding> = facts.caches.iter().map(finding).collect();
    if facts.nix.setting("substitute") == Some("false") {
        findings.push(Finding::note("'substitute' is off, so that no binary cache is asked for failures"));
    }
    findings
}

/// Whether the settings are such that the plugin does something.
pub fn check_settings(facts: &Facts) -> Vec<Finding> {
    let nix = &facts.nix;
    let Ok(configuration) = &nix.configuration else { return Vec::new() };
    let mut findings = Vec::new();
    let unknown = unknown_settings(&configuration.said).join("', '");
    let Some(settings) = nix.settings() else {
        if !unknown.is_empty() && facts.daemon_has_plugin_on() {
            let note = Finding::note(format!("Here, '{unknown}' has no effect, as this Nix does not load the plugin"));
            findings.push(note.advice("What the daemon does is decided by the settings of the daemon."));
        }
        return findings;
    };
    if !unknown.is_empty() {
        let problem = Finding::problem(format!("There is no setting '{unknown}', so that it has no effect"));
        findings
            .push(problem.advice("Is it misspelled, or of a newer version of the plugin? The manual has them all."));
    }
    let settings = match settings {
        Ok(settings) => settings,
        Err(why) => {
            findings.push(Finding::problem(format!("The plugin does nothing: {why}")));
            return findings;
        }
    };
    if settings.enabled {
        findings.push(Finding::ok("'negative-cache' is on"));
    } else if facts.daemon_has_plugin_on() {
        findings.push(Finding::ok("'negative-cache' is off in this Nix; that of the daemon is enough"));
    } else {
        let problem = Finding::problem("'negative-cache' is off, so that nothing is recorded and nothing refused");
        findings.push(edits_nix_conf(facts, problem.advice("To have it on, add  negative-cache = true  to nix.conf.")));
        return findings;
    }
    let builds_all_the_same = [
        (settings.retry, "'negative-cache-retry' is on"),
        (settings.warn, "'negative-cache-action' is 'warn'"),
        (settings.keep_failed, "'keep-failed' is on"),
    ];
    for (_, what) in builds_all_the_same.into_iter().filter(|(set, _)| *set) {
        let note = Finding::note(format!("{what}, so that what is known to fail is built all the same"));
        let note = note.advice("For one command that is what --option is for; see nix.conf and NIX_CONFIG.");
        findings.push(edits_nix_conf(facts, note));
    }
    if let Some(path) = nix.setting("negative-cache-database").filter(|path| !path.is_empty()) {
        let note = Finding::note(format!("'negative-cache-database' is '{path}'"));
        findings.push(note.advice(format!(
            "The other commands of this program have to be told:  nix-negative-cache --database {path} list"
        )));
    }
    findings
}

/// Whether builds in the store that Nix uses go through the plugin.
pub fn check_store(facts: &Facts) -> Vec<Finding> {
    if facts.nix.configuration.is_err() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if let (Some(nix), own) = &facts.nix.state
        && nix != own
    {
        let note = Finding::note(format!(
            "Nix has its state in '{}', this program looks in '{}'",
            nix.display(),
            own.display()
        ));
        findings.push(note.advice(format!("Name it:  nix-negative-cache --store-state {} …", nix.display())));
    }
    if facts.store.is_daemon() {
        return findings;
    }
    findings.push(match &facts.store {
        StoreFacts { store: Err(error), .. } => {
            Finding::problem("Nix can't use its store").advice(format!("It says: {}", said(error)))
        }
        StoreFacts { plugin_on: Err(error), .. } => {
            Finding::problem("Nix can't look into its store").advice(format!("It says: {}", said(error)))
        }
        StoreFacts { store: Ok(store), plugin_on: Ok(on) } => match (facts.nix.has_plugin_on(), on) {
            (_, true) => Finding::ok(format!("Builds in the store '{}' go through the plugin", store.url)),
            (true, false) => Finding::problem(format!("Builds in the store '{}' do not go through the plugin", store.url))
                .advice("It looks after local stores and the nix-daemon of this machine; see 'store' in nix.conf and NIX_REMOTE."),
            (false, false) => Finding::ok(format!("The store is '{}'", store.url)),
        },
    });
    findings
}

/// Whether a daemon answers, and has the plugin on.
pub fn check_daemon(facts: &Facts) -> Vec<Finding> {
    let Some(daemon) = facts.any_daemon().filter(|_| facts.nix.configuration.is_ok()) else { return Vec::new() };
    let builds_for_us = facts.store.is_daemon();
    let has_place = facts.databases.iter().any(|database| matches!(database.role, Role::Own | Role::Named));
    vec![match daemon {
        StoreFacts { store: Err(error), .. } | StoreFacts { plugin_on: Err(error), .. } => {
            let what = "The daemon does not answer";
            let finding = if builds_for_us { Finding::problem(what) } else { Finding::note(what) };
            finding
                .advice(format!("Nix says: {}", said(error)))
                .advice("Where systemd starts it:  systemctl status nix-daemon")
        }
        StoreFacts { store: Ok(store), plugin_on: Ok(on) } => {
            let version = store.version.as_ref().map(|version| format!(", Nix {version},")).unwrap_or_default();
            let name = format!("The daemon{version}");
            match (on, builds_for_us && facts.nix.has_plugin_on()) {
                (true, _) => Finding::ok(format!("{name} has the plugin on, for all its users")),
                (false, true) if !has_place => {
                    let what = format!("{name} does not have the plugin on, and this user has no place for a database");
                    Finding::problem(what).advice("Set HOME, or XDG_STATE_HOME, to a folder that belongs to this user.")
                }
                (false, true) => Finding::ok(format!(
                    "{name} does not have the plugin on: this user's Nix does it alone"
                ))
                .advice(
                    "It remembers what failed for this user, and has the daemon build nothing that would fail again.",
                ),
                (false, false) => Finding::note(format!("{name} does not have the plugin on"))
                    .advice("Its users are not told of known failures, unless their own Nix loads the plugin.")
                    .advice(
                        "It reads 'plugin-files' and 'negative-cache' in the system's nix.conf when it is started. Set them \
                         there, and restart it:  systemctl restart nix-daemon",
                    ),
            }
        }
    }]
}

/// Whether the daemon was started after what it reads and loads then.
pub fn check_restart(facts: &Facts) -> Vec<Finding> {
    let Some(process) = &facts.daemon_process else { return Vec::new() };
    let since = format!("The daemon (process {}) runs since {}", process.id, moment(process.started, &zone()));
    let changed =
        process.changed_files.iter().map(|file| format!(", and has not read the later change of '{}'", file.display()));
    let replaced = process
        .replaced_plugins
        .iter()
        .map(|file| format!(", and still runs what '{}' was before it was replaced or removed", file.display()));
    let problem = |what: String| restart(Finding::problem(format!("{since}{what}")));
    changed.chain(replaced).map(problem).collect()
}
