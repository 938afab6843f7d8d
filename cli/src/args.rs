//! The command line.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use jiff::{SignedDuration, Span, SpanRelativeTo};
use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::database::location::{default_path, personal_path};
use nix_negative_cache_core::failure_object::is_signer;
use nix_negative_cache_core::portable::Place;
use nix_negative_cache_core::settings;
use regex::Regex;

use crate::hydra::arguments::HydraArguments;
use crate::installables;
use crate::wrapping::help_width;

/// The exit status when an argument is wrong, as that of clap.
pub const WRONG_ARGUMENTS: u8 = 2;

/// The exit status when there is no such record.
pub const NOTHING_FOUND: u8 = 3;

/// The exit status of `check` when a known failure stands in the way.
pub const KNOWN_FAILURE: u8 = 4;

/// Above the options that all commands have.
const GLOBAL: &str = "Options of all commands";

/// How wide the help is at most.
const HELP_WIDTH: usize = 100;

/// Looks at and forgets the failures that the nix-negative-cache plugin recorded.
///
/// Exit status: 0 done, 1 an error or a problem that is left ('doctor'), 2 wrong arguments, 3 no such failure is
/// recorded, 4 a known failure stands in the way ('check').
#[derive(Debug, Parser)]
#[command(version, max_term_width = HELP_WIDTH)]
pub struct Arguments {
    #[command(flatten)]
    pub database: DatabaseArguments,

    /// Whether there are colours, and links; 'auto': on terminals, and as NO_COLOR and CLICOLOR_FORCE say
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    color: ColorChoice,

    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// Those of this process.
    ///
    /// # Errors
    ///
    /// If they are wrong, or ask for help; the error has the text.
    pub fn given() -> Result<Arguments, clap::Error> {
        // Help and complaints about arguments have colours, too, and are printed before the arguments are known.
        if let Some(choice) = colour_of(env::args_os().skip(1)) {
            use_colours(choice);
        }
        let mut command = Arguments::command();
        if let Some(width) = help_width() {
            command = command.term_width(width.min(HELP_WIDTH));
        }
        let mut matches = command.try_get_matches_from_mut(env::args_os())?;
        Arguments::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
    }
}

/// What `--color` says among arguments that may be wrong.
fn colour_of(arguments: impl Iterator<Item = OsString>) -> Option<ColorChoice> {
    let mut arguments = arguments.take_while(|argument| argument != "--");
    let mut chosen = None;
    while let Some(argument) = arguments.next() {
        let value = match argument.to_str()?.strip_prefix("--color") {
            Some("") => arguments.next(),
            Some(value) => value.strip_prefix('=').map(OsString::from),
            None => None,
        };
        chosen = value.and_then(|value| ColorChoice::from_str(value.to_str()?, false).ok()).or(chosen);
    }
    chosen
}

fn use_colours(choice: ColorChoice) {
    match choice {
        ColorChoice::Auto => anstream::ColorChoice::Auto,
        ColorChoice::Always => anstream::ColorChoice::Always,
        ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
}

/// Which database.
#[derive(Debug, Args)]
pub struct DatabaseArguments {
    /// The database file, as in the setting 'negative-cache-database', and no other
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    database: Option<PathBuf>,

    /// The state directory of the store, whose database is used, and this user's own, unless --database names another
    /// [default: NIX_STATE_DIR of the environment, or /nix/var/nix]
    // clap would take the value of a variable for an option that was given, and show it in each usage.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR")]
    store_state: Option<PathBuf>,
}

impl DatabaseArguments {
    /// The database file that was named.
    pub fn chosen(&self) -> Option<&Path> {
        self.database.as_deref()
    }

    /// The state directory of the store.
    pub fn store_state(&self) -> PathBuf {
        let variable = || env::var_os("NIX_STATE_DIR").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        self.store_state.clone().or_else(variable).unwrap_or_else(|| PathBuf::from("/nix/var/nix"))
    }

    /// The database files: this user's own comes first.
    pub fn paths(&self) -> Vec<PathBuf> {
        match &self.database {
            Some(path) => vec![path.clone()],
            None => personal_path().into_iter().chain([default_path(&self.store_state())]).collect(),
        }
    }
}

/// Settings that are otherwise those of the Nix in PATH.
#[derive(Debug, Default, Args)]
pub struct SettingsArguments {
    /// How long a failure is believed, such as 12h or 7d; 0s is for ever [default: 'negative-cache-ttl']
    #[arg(long, value_name = "SPAN", value_parser = lifetime)]
    pub ttl: Option<Lifetime>,

    /// How long a failure is believed at most, such as 90d [default: 'negative-cache-max-ttl']
    #[arg(long, value_name = "SPAN", value_parser = lifetime)]
    pub max_ttl: Option<Lifetime>,

    /// How often a derivation must fail in a row [default: 'negative-cache-min-failures']
    #[arg(long, value_name = "NUMBER", value_parser = settings::min_failures)]
    pub min_failures: Option<u32>,
}

impl SettingsArguments {
    /// Whether other settings than those in force are tried out.
    pub fn try_out(&self) -> bool {
        self.ttl.is_some() || self.max_ttl.is_some() || self.min_failures.is_some()
    }
}

/// A span of time; none for ever.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime(pub Option<SignedDuration>);

fn lifetime(text: &str) -> Result<Lifetime, String> {
    let span: Span = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    let options = SpanRelativeTo::days_are_24_hours();
    let duration = span.to_duration(options).map_err(|error| error.to_string())?;
    let seconds = u64::try_from(duration.as_secs()).map_err(|_| "it is less than nothing".to_owned())?;
    Ok(Lifetime(settings::lifetime(seconds)))
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the recorded failures, newest first
    ///
    /// On a terminal, a list that is longer than the screen goes through the pager that NIX_PAGER or PAGER name, or less.
    List(ListArguments),
    /// Show the whole record of failures, with the end of the log
    ///
    /// Nix is not asked. Whether a failure is believed here and now is what 'explain' says.
    Show(ShowArguments),
    /// Forget failures, so that they are built again
    Forget(ForgetArguments),
    /// Have this user's next build try failures once more; needs no rights
    Retry(RetryArguments),
    /// Say why paths would be refused or built now
    Explain(ExplainArguments),
    /// Say what has changed between the environment of failures and here
    ///
    /// A failure counts where it happened. Compared is the environment of the last attempt that failed.
    Diff(DiffArguments),
    /// Print the whole log of a failure, as Nix has it
    ///
    /// If Nix has none, the last lines are printed that were recorded. On a terminal, a log that is longer than the screen goes
    /// through the pager that NIX_PAGER or PAGER name, or less.
    Log(LogArguments),
    /// Follow what is recorded, refused and lifted, a line each
    ///
    /// Begins with what happens next, and ends by Control-C, or when nobody reads the output any more. A failure is lifted when it
    /// was built, forgotten, or when somebody has asked for a new attempt.
    Watch(WatchArguments),
    /// Judge the log of a failed build, without building: would the failure pass if it were tried again?
    ///
    /// Prints the class, the line of the log that decided, and all that speaks for and against it. If a failure is judged wrong,
    /// please report what this prints, with the log.
    Judge(JudgeArguments),
    /// Tell which known failures stand in the way of derivations, without building
    Check(CheckArguments),
    /// Publish failures in a binary cache, so that others need not build what fails here
    ///
    /// Takes what says something about the derivation and nothing about this machine, and is not in that cache yet: see --dry-run.
    /// Others believe it if they have the public key in their setting 'negative-cache-trusted-public-keys'. 'nix copy' does the
    /// upload. If the build of a derivation has succeeded here since its failure was published, the failure is withdrawn.
    Publish(PublishArguments),
    /// Write failures to a file, for machines that share no binary cache
    ///
    /// Takes what 'publish' takes: what says something about the derivation and nothing about this machine. The file is text, and
    /// the same for the same failures. The failures of the last 7 days that still stand are in it.
    Export(ExportArguments),
    /// Take failures from a file that 'export' has written on another machine, and believe them
    ///
    /// They are believed like failures from binary caches: in a sandbox, for 7 days at most. They go into the database of the store
    /// if this user may write to it, as root may, or else into the user's own. A failure is left out if the derivation was tried
    /// here since, or if the failure was learned from elsewhere before and then forgotten. If a line of the file is bad, nothing is
    /// imported.
    Import(ImportArguments),
    /// Write a page for browsers about failures, and about what was saved by not building them again
    ///
    /// The page is one file that asks for nothing else, in light and in dark colours. It shows failures and time saved by day, what
    /// known failures block, flaky derivations, and each failure with the end of its log. The failures can be searched. The Nix in
    /// PATH tells what they block, if its store has the derivations.
    Report(ReportArguments),
    /// Ask binary caches whether derivations are known to fail elsewhere, without building
    ///
    /// The Nix that builds asks them, and what they said is printed. Exit status: 0 if all are known to fail elsewhere, 3 if not.
    Fetch(FetchArguments),
    /// Say what the cache has saved, and what failed
    ///
    /// Time saved is how long the refused builds took when they failed. Refusals are counted by day of UTC, where Nix may write to a
    /// database.
    Stats(StatsArguments),
    /// Check Nix, the plugin, its settings and the databases, and say what to do about what is wrong
    ///
    /// Exit status: 0 if nothing is wrong, 1 if a problem is left.
    Doctor(DoctorArguments),
    /// Print which databases are used
    Path,
    /// Run a command with the plugin and its flags, whatever the configuration of Nix says of plugins
    ///
    /// A command by the name of one of Nix's programs, as in 'run -- nix build --negative-cache', is the next program of that
    /// name in PATH. Any other, such as 'run -- make', runs with the links of 'shim install' first in PATH, so that what it
    /// starts as 'nix' takes the flags as well; the links are in libexec/nix-negative-cache/bin of this installation or, if
    /// it has none, in ~/.cache/nix-negative-cache/bin.
    ///
    /// Exit status: that of the command; 126 if it can't be run, 127 if there is none.
    Run {
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Have 'nix', 'nix-build' and the others take the plugin's flags, such as --negative-cache-retry
    ///
    /// Called by such a name, this program finds the real one behind it in PATH, hands on the plugin's flags as settings, has
    /// the plugin loaded where configuration or flags ask for it, and becomes the real one.
    ///
    /// NIX_NEGATIVE_CACHE_NIX_BIN names the folder of the real programs, if it is not to be the next one in PATH;
    /// NIX_NEGATIVE_CACHE_PLUGIN the file of the plugin, if it is not the one that was installed with this program.
    #[command(subcommand)]
    Shim(ShimCommand),
    /// Write a man page for each command
    Man {
        /// The folder for the pages
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Print the completions of a shell
    ///
    /// Those of bash, zsh and fish complete what is recorded as well: paths, names, origins and systems.
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub enum ShimCommand {
    /// Make links by Nix's names to this program, in a folder that comes before Nix's in PATH
    Install {
        /// The folder, which is made if it is not there; nothing but such links is replaced in it
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Remove those links, and nothing else
    Remove {
        /// The folder, which goes if it is empty then
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only derivations whose name matches this regular expression
    #[arg(long, value_name = "REGEX")]
    pub name: Option<Regex>,

    /// Only failures of this span of time until now, such as 90m, 12h or 7d
    #[arg(long, value_name = "SPAN")]
    pub since: Option<Span>,

    /// Only failures of this class, such as 'builder' or 'output'
    #[arg(long, value_name = "CLASS", value_parser = class())]
    pub class: Option<Class>,

    /// Only failures from there: 'here' for what failed here; 'file' for what was imported from files, or the name of a file; 'hydra',
    /// or the URL of a Hydra; the URL of a binary cache, or the name of the key of who published it
    #[arg(long, value_name = "ORIGIN")]
    pub origin: Option<String>,

    /// Only derivations for this system, such as x86_64-linux
    #[arg(long, value_name = "SYSTEM")]
    pub system: Option<String>,

    /// Also what has succeeded since
    #[arg(long)]
    pub all: bool,

    /// The order: by the time of the last or the first failure, newest first; by name; by how long the last attempt took; by
    /// the number of attempts, most first
    #[arg(long, value_name = "BY", default_value_t = Order::Last)]
    pub sort: Order,

    #[command(flatten)]
    pub paging: PagingArguments,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub settings: SettingsArguments,
}

#[derive(Debug, Args)]
pub struct StatsArguments {
    /// Only this span of time until now, such as 12h or 7d; refusals count from the beginning of its first day of UTC
    #[arg(long, value_name = "SPAN")]
    pub since: Option<Span>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Print what Prometheus reads: the text format, for the textfile collector of its node_exporter
    #[arg(long, conflicts_with_all = ["since", "json"])]
    pub prometheus: bool,
}

fn class() -> impl TypedValueParser<Value = Class> {
    PossibleValuesParser::new(Class::ALL.iter().map(|class| class.name())).try_map(|name| name.parse::<Class>())
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Order {
    Last,
    First,
    Name,
    Duration,
    Attempts,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

/// Whether a pager is used.
#[derive(Debug, Args)]
pub struct PagingArguments {
    /// Print all at once, also on a terminal
    #[arg(long)]
    pub no_pager: bool,
}

/// The derivations and outputs that a command looks at.
#[derive(Debug, Args)]
pub struct PathArguments {
    /// Derivations or outputs, as Nix takes them: store paths, DRV^OUTPUT for DRV, links such as ./result, flake references such
    /// as .#name
    #[arg(required_unless_present_any = ["attributes", "file"], value_name = "PATH", value_parser = installables::read)]
    pub paths: Vec<String>,

    #[command(flatten)]
    pub expression: ExpressionArguments,
}

#[derive(Debug, Args)]
pub struct ExplainArguments {
    #[command(flatten)]
    pub what: PathArguments,

    #[command(flatten)]
    pub settings: SettingsArguments,
}

#[derive(Debug, Args)]
pub struct DiffArguments {
    #[command(flatten)]
    pub what: PathArguments,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct LogArguments {
    #[command(flatten)]
    pub what: PathArguments,

    #[command(flatten)]
    pub paging: PagingArguments,
}

#[derive(Debug, Args)]
pub struct JudgeArguments {
    /// The log, as 'nix log' prints it [default: standard input]
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// The exit code of the builder
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=255))]
    pub exit_code: i32,

    /// The builder ran in a sandbox, so it had no network
    #[arg(long, conflicts_with = "fixed_output")]
    pub sandbox: bool,

    /// The derivation is a fixed-output one: a download
    #[arg(long)]
    pub fixed_output: bool,
}

#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Derivations, as Nix takes them: store paths, DRV^OUTPUT for DRV, links such as ./result, flake references such as .#name
    #[arg(required_unless_present_any = ["attributes", "file"], value_name = "DRV", value_parser = installables::read)]
    pub derivations: Vec<String>,

    #[command(flatten)]
    pub expression: ExpressionArguments,

    /// Also look at what would be built for them
    #[arg(long)]
    pub closure: bool,

    /// Ask no binary caches what is known to fail elsewhere
    #[arg(long)]
    pub offline: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub settings: SettingsArguments,
}

#[derive(Debug, Args)]
pub struct ShowArguments {
    #[command(flatten)]
    pub what: PathArguments,

    /// Also say whether and until when they are believed here, and what would have them built again; so do the options that try
    /// out settings
    #[arg(long)]
    pub explain: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub settings: SettingsArguments,
}

#[derive(Debug, Args)]
pub struct RetryArguments {
    #[command(flatten)]
    pub what: PathArguments,
}

#[derive(Debug, Args)]
pub struct PublishArguments {
    /// Only the failures of these derivations or outputs, as Nix takes them: store paths, DRV^OUTPUT for DRV, links such as
    /// ./result, flake references such as .#name
    #[arg(value_name = "PATH", value_parser = installables::read, conflicts_with_all = ["name", "since"])]
    pub paths: Vec<String>,

    #[command(flatten)]
    pub expression: ExpressionArguments,

    /// The binary cache, as 'nix copy --to' takes it, such as file:///srv/cache or s3://cache?region=eu-west-1
    #[arg(long, value_name = "URL")]
    pub to: String,

    /// The file with the secret key, as 'nix-store --generate-binary-cache-key' makes it
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,

    /// The name of the key of a cache that signs by itself, such as attic; nothing is signed here
    #[arg(long, value_name = "NAME", value_parser = signer, conflicts_with = "key_file")]
    pub signer: Option<String>,

    /// Only derivations whose name matches this regular expression
    #[arg(long, value_name = "REGEX", conflicts_with_all = ["attributes", "file"])]
    pub name: Option<Regex>,

    /// Only failures of this span of time until now, such as 90m, 12h or 7d
    #[arg(long, value_name = "SPAN", conflicts_with_all = ["attributes", "file"])]
    pub since: Option<Span>,

    /// Failures of this machine, or those that were imported from Hydras, but for those that only warn
    #[arg(long, value_name = "ORIGIN", default_value = "here")]
    pub origin: PublishedOrigin,

    /// Leave out the last lines of logs
    #[arg(long)]
    pub no_log: bool,

    /// Print what would be published, to the byte, and what stays here and why; nothing is written or sent
    #[arg(long)]
    pub dry_run: bool,

    /// Print JSON, with --dry-run
    #[arg(long, requires = "dry_run")]
    pub json: bool,
}

/// Which failures are published: those of this machine, or those that were imported from Hydras.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PublishedOrigin {
    Here,
    Hydra,
}

impl PublishArguments {
    /// Where the failures happened that are published.
    pub fn place(&self) -> Place {
        match self.origin {
            PublishedOrigin::Here => Place::Here,
            PublishedOrigin::Hydra => Place::Hydra,
        }
    }
}

#[derive(Debug, Args)]
pub struct ExportArguments {
    /// The file, which is replaced if it is there; '-' is standard output
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Leave out the last lines of logs
    #[arg(long)]
    pub no_log: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, disable_help_subcommand = true)]
pub struct ImportArguments {
    #[command(subcommand)]
    pub from: Option<ImportCommand>,

    /// The file; '-' is standard input
    #[arg(value_name = "FILE", required = true)]
    pub file: Option<PathBuf>,

    /// Print what would be imported, and what would be left out and why; nothing is written
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct ReportArguments {
    /// The file, which is replaced if it is there; '-' is standard output
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,

    /// Only this span of time until now, such as 12h, 30d or 3mo
    #[arg(long, value_name = "SPAN")]
    pub since: Option<Span>,
}

#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// Take failures from a Hydra, such as hydra.nixos.org
    ///
    /// Builds count whose builder failed in the last 7 days, and whose log does not speak of anything that would pass, such as a lack of
    /// memory. They are believed like failures from a file, and go into the same database. If you interrupt it, what was recorded stays,
    /// and the same command goes on from there. A build that was imported or left out is not asked for again for some time.
    Hydra(HydraArguments),
}

fn signer(name: &str) -> Result<String, String> {
    if is_signer(name) {
        Ok(name.to_owned())
    } else {
        Err("not the name of a key, such as ci-1: what stands before the colon in its file".to_owned())
    }
}

#[derive(Debug, Args)]
pub struct WatchArguments {
    /// Print JSON, a line each
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct FetchArguments {
    #[command(flatten)]
    pub what: PathArguments,
}

#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Repair what can be repaired; needs the rights of who owns it
    #[arg(long)]
    pub fix: bool,
}

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = true, args = ["attributes", "file"])]
pub struct ForgetArguments {
    /// Derivations or outputs, as Nix takes them: store paths, DRV^OUTPUT for DRV, links such as ./result, flake references such
    /// as .#name
    #[arg(value_name = "PATH", group = "what", value_parser = installables::read)]
    pub paths: Vec<String>,

    #[command(flatten)]
    pub expression: ExpressionArguments,

    /// All derivations whose name matches this regular expression
    #[arg(long, value_name = "REGEX", group = "what")]
    pub name: Option<Regex>,

    /// All failures
    #[arg(long, group = "what", conflicts_with_all = ["paths", "name", "attributes", "file"])]
    pub all: bool,
}

/// Attributes of a file with a Nix expression.
#[derive(Debug, Default, Args)]
pub struct ExpressionArguments {
    /// The derivation of this attribute of FILE, as with nix-build
    #[arg(short = 'A', long = "attr", value_name = "ATTR")]
    pub attributes: Vec<String>,

    /// The file with the Nix expression; without --attr, all its derivations [default with --attr: ./default.nix]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<String>,
}

impl ExpressionArguments {
    /// Whether there is nothing to evaluate.
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty() && self.file.is_none()
    }
}

impl Command {
    /// The arguments and the expression that name derivations and outputs, if the command takes any.
    pub fn installables(&mut self) -> Option<(&mut Vec<String>, &ExpressionArguments)> {
        Some(match self {
            Command::Show(ShowArguments { what, .. })
            | Command::Retry(RetryArguments { what })
            | Command::Explain(ExplainArguments { what, .. })
            | Command::Diff(DiffArguments { what, .. })
            | Command::Log(LogArguments { what, .. })
            | Command::Fetch(FetchArguments { what }) => (&mut what.paths, &what.expression),
            Command::Forget(ForgetArguments { paths, expression, .. })
            | Command::Check(CheckArguments { derivations: paths, expression, .. })
            | Command::Publish(PublishArguments { paths, expression, .. }) => (paths, expression),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn colours_are_known_before_the_arguments_are() {
        let of = |line: &str| colour_of(line.split_whitespace().map(OsString::from));
        assert_eq!(of("list --color never --wrong"), Some(ColorChoice::Never));
        assert_eq!(of("--color=always list --color auto"), Some(ColorChoice::Auto));
        for without in ["list", "--color", "--color sometimes", "run -- ls --color=never"] {
            assert_eq!(of(without), None, "{without}");
        }
    }
}
