//! What a user reads who asks why something would be refused or built.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::belief::{Belief, Doubt, Source, lifetime_text};
use crate::record::FailureRecord;
use crate::settings::Settings;
use crate::time_text::{ago, moment, span};

/// Until when a record is believed, or why it is not, in a few words.
pub fn believed_until(belief: &Belief, zone: &TimeZone) -> String {
    match belief {
        Belief::Fails { until: None, .. } => "for ever".to_owned(),
        Belief::Fails { until: Some(until), .. } => moment(*until, zone),
        Belief::Told => "not known".to_owned(),
        Belief::Open(doubt) => {
            let why = match doubt {
                Doubt::Succeeded => "succeeded since",
                Doubt::Unwanted(_) => "not wanted",
                Doubt::Elsewhere(_) => "other environment",
                Doubt::Future(_) => "clock was wrong",
                Doubt::TooFew { doubtful: true, .. } => "doubtful",
                Doubt::TooFew { .. } => "too few failures",
                Doubt::Expired(_) => "expired",
                Doubt::RetryRequested(_) => "retry asked for",
                Doubt::Daemon => "the daemon says so",
                Doubt::Untrusted(_) => "key not trusted",
                Doubt::NoSandbox => "no sandbox here",
                Doubt::OnlyWarns(_) => "only warns",
            };
            format!("not now: {why}")
        }
    }
}

/// What would have a refused derivation built again. Only who may write to the database is told to forget the record.
pub fn lifts(record: &FailureRecord, settings: &Settings, belief: &Belief, may_forget: bool) -> Vec<String> {
    if matches!(belief, Belief::Open(_)) {
        return Vec::new();
    }
    let mut lifts = vec![
        "--option negative-cache-retry true, for one command".to_owned(),
        if may_forget {
            format!("nix-negative-cache forget {}", record.summary.derivation)
        } else {
            format!("nix-negative-cache retry {}, for this user's next build", record.summary.derivation)
        },
    ];
    if record.origin().is_none() {
        lifts.push("another environment, such as another kernel, Nix, sandbox or number of cores".to_owned());
    }
    if matches!(belief, Belief::Fails { until: Some(_), .. }) {
        let confirmed = record.summary.history.iter().take_while(|attempt| attempt.failure.is_some()).count();
        let doubled = if confirmed > 1 { ", doubled by each failure in a row" } else { "" };
        let (ttl, max) = (lifetime_text(settings.ttl), lifetime_text(settings.max_ttl));
        if let Some(origin) = record.origin() {
            lifts.push(match origin.source {
                Source::Cache { .. } => "time: a failure from a binary cache is believed for 7 days at most".to_owned(),
                Source::File { .. } => "time: a failure from a file is believed for 7 days at most".to_owned(),
                Source::Hydra { .. } => "time: a failure from a Hydra is believed for 7 days at most".to_owned(),
            });
            return lifts;
        }
        lifts.push(format!("time: a failure is believed for {ttl}{doubled}, at most {max}"));
    }
    lifts
}

/// What the next attempts must show to settle a doubt.
fn settles(doubt: &Doubt) -> Option<String> {
    let Doubt::TooFew { failures, needed, doubtful: true, .. } = doubt else { return None };
    Some(match needed.saturating_sub(*failures) {
        0 | 1 => "Another failure like it makes it count; a success lifts it.".to_owned(),
        more => format!("{more} more failures like it in a row make it count; a success lifts it."),
    })
}

/// Why the derivation of a record would be refused or built now; `is_needed` is whether there is anything to build.
pub fn explain(
    record: &FailureRecord,
    settings: &Settings,
    belief: &Belief,
    is_needed: bool,
    now: Timestamp,
    zone: &TimeZone,
) -> Vec<String> {
    let times =
        if record.summary.attempts == 1 { "once".to_owned() } else { format!("{} times", record.summary.attempts) };
    let doubtful = if record.summary.is_doubtful() { ", and a doubtful one" } else { "" };
    let mut sentences = vec![format!(
        "It failed {times}, last {} {}: {}, after {}. That is a failure of the class '{}'{doubtful}.",
        ago(record.summary.last_failure, now),
        record.place(),
        record.summary.reason(),
        span(record.summary.duration_ms),
        record.summary.class
    )];
    if let Some(line) = &record.deciding_line {
        sentences.push(format!("What decided is in its log: {}", line.text()));
    } else if record.summary.is_doubtful() {
        sentences
            .push("A daemon built it, and only the daemon knows the disk, memory and limits of its builds.".to_owned());
    }
    if let Belief::Fails { attempt: attempt @ 1.., .. } = belief {
        let believed = record.believed(*attempt);
        sentences.push(format!(
            "What counts now is an earlier attempt, {}: {}.",
            ago(believed.time, now),
            believed.reason
        ));
    }
    match belief {
        Belief::Open(doubt) => {
            sentences.push(format!("This does not count now: {doubt}."));
            sentences.extend(settles(doubt));
        }
        Belief::Told => {
            sentences.push("The daemon that builds believes it. Until when is not known here.".to_owned());
        }
        Belief::Fails { until: None, .. } => sentences.push("It is believed for ever.".to_owned()),
        Belief::Fails { until: Some(until), .. } => {
            sentences.push(format!("It is believed until {}.", moment(*until, zone)))
        }
    }
    let built = |why: &str| is_needed.then(|| format!("So it would be built, {why}."));
    sentences.extend(match belief {
        _ if !settings.enabled => built("as 'negative-cache' is off"),
        Belief::Open(_) => is_needed.then(|| "So it would be built.".to_owned()),
        _ if settings.retry => built("as 'negative-cache-retry' is on"),
        _ if settings.keep_failed => built("as 'keep-failed' is on"),
        _ if settings.warn => built("after a warning, as 'negative-cache-action' is 'warn'"),
        _ if is_needed => Some("So it would be refused.".to_owned()),
        _ => Some("If it had to be built, it would be refused.".to_owned()),
    });
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deciding_line::DecidingLine;
    use crate::record::tests::record;

    fn explained(change: impl Fn(&mut Settings), belief: &Belief) -> Vec<String> {
        let mut settings = Settings { enabled: true, ..Settings::default() };
        change(&mut settings);
        let now = Timestamp::from_second(1_000_240).unwrap();
        explain(&record(), &settings, belief, true, now, &TimeZone::UTC)
    }

    #[test]
    fn refused_or_built() {
        let until = Timestamp::from_second(1_604_800).unwrap();
        let fails = Belief::Fails { attempt: 0, until: Some(until) };
        let sentences = explained(|_| (), &fails);
        assert_eq!(
            sentences,
            [
                "It failed once, last 4 minutes ago on h: builder failed with exit code 1, after 12 s. That is a failure of \
                 the class 'builder'.",
                "It is believed until 1970-01-19 13:46 UTC.",
                "So it would be refused."
            ]
        );
        let last = |change: fn(&mut Settings), belief: &Belief| explained(change, belief).pop().unwrap();
        assert_eq!(last(|s| s.enabled = false, &fails), "So it would be built, as 'negative-cache' is off.");
        assert_eq!(last(|s| s.retry = true, &fails), "So it would be built, as 'negative-cache-retry' is on.");
        assert_eq!(last(|s| s.keep_failed = true, &fails), "So it would be built, as 'keep-failed' is on.");
        assert!(last(|s| s.warn = true, &fails).contains("after a warning"));
        let expired = Belief::Open(Doubt::Expired(until));
        assert_eq!(last(|s| s.retry = true, &expired), "So it would be built.");
        assert_eq!(
            explained(|_| (), &expired)[1],
            "This does not count now: the failure was believed until 1970-01-19T13:46:40Z."
        );
    }

    #[test]
    fn what_settles_a_doubtful_failure() {
        let mut record = record();
        if let Some(failure) = &mut record.summary.history[0].failure {
            failure.doubtful = Some(1);
        }
        record.deciding_line = Some(DecidingLine {
            cause: "out of memory".to_owned(),
            line: "cc1plus: out of memory".to_owned(),
            number: 120,
            of: 180,
            against: None,
        });
        let settings = Settings { enabled: true, ..Settings::default() };
        let now = Timestamp::from_second(1_000_240).unwrap();
        let explained = |belief: &Belief| explain(&record, &settings, belief, true, now, &TimeZone::UTC);
        let too_few = |needed| Belief::Open(Doubt::TooFew { failures: 1, needed, flaky: false, doubtful: true });
        assert_eq!(
            explained(&too_few(2)),
            [
                "It failed once, last 4 minutes ago on h: builder failed with exit code 1, after 12 s. That is a failure of \
                 the class 'builder', and a doubtful one.",
                "What decided is in its log: out of memory, in line 120 of 180: cc1plus: out of memory",
                "This does not count now: the failure is doubtful: it counts once it has come twice in a row with the same \
                 exit code and the same last lines.",
                "Another failure like it makes it count; a success lifts it.",
                "So it would be built."
            ]
        );
        assert_eq!(believed_until(&too_few(2), &TimeZone::UTC), "not now: doubtful");
        assert_eq!(explained(&too_few(4))[3], "3 more failures like it in a row make it count; a success lifts it.");
        let fails = Belief::Fails { attempt: 0, until: None };
        assert_eq!(explained(&fails)[2..], ["It is believed for ever.", "So it would be refused."]);
        let of_others = Belief::Open(Doubt::TooFew { failures: 1, needed: 2, flaky: true, doubtful: false });
        assert_eq!(believed_until(&of_others, &TimeZone::UTC), "not now: too few failures");
        assert!(!explained(&of_others).iter().any(|sentence| sentence.contains("lifts")));
    }

    #[test]
    fn without_anything_to_build() {
        let fails = Belief::Fails { attempt: 0, until: None };
        let now = Timestamp::from_second(1_000_240).unwrap();
        let mut settings = Settings { enabled: true, ..Settings::default() };
        let last = |settings: &Settings, belief: &Belief| {
            explain(&record(), settings, belief, false, now, &TimeZone::UTC).pop().unwrap()
        };
        assert_eq!(last(&settings, &fails), "If it had to be built, it would be refused.");
        assert_eq!(
            last(&settings, &Belief::Open(Doubt::Succeeded)),
            "This does not count now: it has succeeded since."
        );
        settings.enabled = false;
        assert_eq!(last(&settings, &fails), "It is believed for ever.");
    }

    #[test]
    fn what_lifts_a_refusal() {
        let fails = Belief::Fails { attempt: 0, until: Some(Timestamp::MAX) };
        let lifts_of = |belief| lifts(&record(), &Settings::default(), belief, true);
        assert_eq!(lifts_of(&fails).len(), 4);
        assert_eq!(lifts_of(&fails)[3], "time: a failure is believed for 7 d, at most 90 d");
        assert_eq!(lifts_of(&Belief::Fails { attempt: 0, until: None }).len(), 3);
        assert!(lifts_of(&Belief::Open(Doubt::Succeeded)).is_empty());
        let of_others = lifts(&record(), &Settings::default(), &fails, false);
        assert!(
            of_others.iter().all(|lift| !lift.contains("forget")) && of_others[1].contains("retry /nix"),
            "{of_others:?}"
        );
    }
}
