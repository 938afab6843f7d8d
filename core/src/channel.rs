//! The messages by which clients of nix-daemon talk to the plugin in the daemon.
//!
//! The daemon takes settings from trusted users only, and complains about others'. But everybody may ask it whether a
//! store path is valid (`IsValidPath` in worker-protocol.hh). So a client asks for a path that no store has and whose name
//! is the message. To a daemon without the plugin it is a path like any other, which is not valid. A message changes nothing
//! outside the failure database. It can make the plugin less strict with the client that sends it, or have it learn what those
//! have published whom the daemon trusts. To a question, the answer yes is that the path is valid.

use crate::settings::{SettingInfo, Settings};
use crate::store_path::{hash_part, is_hash_part};

/// The hash part of messages that are about no path.
const NO_HASH: &str = "00000000000000000000000000000000";
/// The beginning of the names of messages.
const PREFIX: &str = "nix-negative-cache-";
const RETRY: &str = "retry";
const ANSWERS: &str = "answers";
const KNOWN: &str = "known";
const REFUSED: &str = "refused";
const HELLO: &str = "hello";
const FETCHES: &str = "fetches";
const FETCH: &str = "fetch";

/// A message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Asks whether the plugin is there. If it is on, it calls this path valid.
    Hello,
    /// Asks whether the plugin answers questions about paths. A plugin that calls this path invalid knows no such questions,
    /// and its answers to them mean nothing.
    Answers,
    /// Asks for one more attempt at the path with this hash part, the next time that this user requests it.
    Retry(String),
    /// Asks whether the path with this hash part is known to fail.
    IsKnown(String),
    /// Asks whether the derivation with this hash part would be refused to this user, if it had to be built. A derivation is
    /// not refused, for example, if the user has asked for one more attempt.
    IsRefused(String),
    /// Asks whether the plugin has its binary caches asked on demand. A plugin that calls this path invalid knows no
    /// [`Message::Fetch`].
    Fetches,
    /// Has the plugin ask its binary caches whether the derivation with this hash part failed elsewhere, or something that
    /// would be built for it, and asks whether the derivation itself is known to have failed there and believed. What the
    /// caches say is told in lines at `-v`.
    Fetch(String),
    /// Gives a lenient setting this value for as long as the connection lasts.
    Setting(&'static str, String),
}

impl Message {
    /// The message that asks for one more attempt at a store path; `None` if `path` is none.
    pub fn retry(path: &str) -> Option<Message> {
        Some(Message::Retry(hash_part(path)?.to_owned()))
    }

    /// The question whether a store path is known to fail; `None` if `path` is none.
    pub fn is_known(path: &str) -> Option<Message> {
        Some(Message::IsKnown(hash_part(path)?.to_owned()))
    }

    /// The question whether a derivation would be refused; `None` if `path` is no store path.
    pub fn is_refused(path: &str) -> Option<Message> {
        Some(Message::IsRefused(hash_part(path)?.to_owned()))
    }

    /// Has caches asked about a derivation; `None` if `path` is no store path.
    pub fn fetch(path: &str) -> Option<Message> {
        Some(Message::Fetch(hash_part(path)?.to_owned()))
    }

    /// The base name of the path that the client asks for.
    pub fn to_base_name(&self) -> String {
        match self {
            Message::Hello => format!("{NO_HASH}-{PREFIX}{HELLO}"),
            Message::Answers => format!("{NO_HASH}-{PREFIX}{ANSWERS}"),
            Message::Retry(hash_part) => format!("{hash_part}-{PREFIX}{RETRY}"),
            Message::IsKnown(hash_part) => format!("{hash_part}-{PREFIX}{KNOWN}"),
            Message::IsRefused(hash_part) => format!("{hash_part}-{PREFIX}{REFUSED}"),
            Message::Fetches => format!("{NO_HASH}-{PREFIX}{FETCHES}"),
            Message::Fetch(hash_part) => format!("{hash_part}-{PREFIX}{FETCH}"),
            Message::Setting(name, value) => format!("{NO_HASH}-{PREFIX}{name}={value}"),
        }
    }

    /// Reads the base name of a path that a client asked for; `None` if it is no message.
    pub fn parse(base_name: &str) -> Option<Message> {
        let (hash_part, name) = base_name.split_once('-')?;
        let message = name.strip_prefix(PREFIX)?;
        if hash_part != NO_HASH {
            let about: fn(String) -> Message = match message {
                RETRY => Message::Retry,
                KNOWN => Message::IsKnown,
                REFUSED => Message::IsRefused,
                FETCH => Message::Fetch,
                _ => return None,
            };
            return is_hash_part(hash_part).then(|| about(hash_part.to_owned()));
        }
        match message.split_once('=') {
            None if message == HELLO => Some(Message::Hello),
            None if message == ANSWERS => Some(Message::Answers),
            None if message == FETCHES => Some(Message::Fetches),
            None => None,
            Some((setting, value)) => {
                let SettingInfo { name, .. } = SettingInfo::named(setting).filter(|setting| setting.lenient)?;
                Some(Message::Setting(name, value.to_owned()))
            }
        }
    }
}

/// The messages for those settings of a client that make the plugin less strict than the defaults.
pub fn settings_to_tell(settings: &Settings) -> Vec<Message> {
    let lenient = settings.lenient().into_iter();
    lenient.map(|(name, value)| Message::Setting(name, value)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let path = "/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv";
        let retry = Message::retry(path).unwrap();
        assert_eq!(retry.to_base_name(), "7r40h4gj6rsaw6xnsq7vj128dpiawa94-nix-negative-cache-retry");
        let questions =
            [Message::is_known, Message::is_refused, Message::fetch].map(|question| question(path).unwrap());
        let setting = Message::Setting("negative-cache-retry", "true".to_owned());
        for message in questions.into_iter().chain([Message::Hello, Message::Answers, Message::Fetches, retry, setting])
        {
            assert_eq!(Message::parse(&message.to_base_name()), Some(message));
        }
        assert_eq!(Message::retry("/nix/store/short-x"), None);
    }

    #[test]
    fn the_rest_is_no_message() {
        for name in [
            "7r40h4gj6rsaw6xnsq7vj128dpiawa94-x",
            "7r40h4gj6rsaw6xnsq7vj128dpiawa94-nix-negative-cache-retry-2",
            "00000000000000000000000000000000-nix-negative-cache-retry",
            "00000000000000000000000000000000-nix-negative-cache-negative-cache-database=x",
            "7r40h4gj6rsaw6xnsq7vj128dpiawa94-nix-negative-cache-negative-cache-retry=true",
            "nix-negative-cache-retry",
            "",
        ] {
            assert_eq!(Message::parse(name), None, "{name}");
        }
    }

    #[test]
    fn only_what_is_less_strict_is_worth_saying() {
        let on = Settings { enabled: true, ..Settings::default() };
        assert!(settings_to_tell(&on).is_empty());
        assert_eq!(settings_to_tell(&Settings { warn: true, min_failures: 3, ..on }).len(), 2);
        assert_eq!(
            settings_to_tell(&Settings::default()),
            [("negative-cache-retry", "true"), ("negative-cache", "false")]
                .map(|(name, value)| Message::Setting(name, value.to_owned()))
        );
    }

    proptest! {
        #[test]
        fn nothing_a_client_says_makes_it_stricter(messages in proptest::collection::vec(".*", 0..4), name in 0..crate::settings::ALL.len(), value in ".*") {
            let before = Settings { enabled: true, ..Settings::default() };
            let mut settings = before.clone();
            let said = Message::Setting(crate::settings::ALL[name].name, value).to_base_name();
            for message in messages.iter().chain([&said]).filter_map(|text| Message::parse(text)) {
                if let Message::Setting(name, value) = message {
                    settings.relax(name, &value);
                }
            }
            prop_assert!(settings.ttl.is_some() && settings.ttl <= before.ttl && settings.max_ttl <= before.max_ttl);
            prop_assert!(settings.min_failures >= before.min_failures);
            let rest = Settings {
                enabled: before.enabled, retry: before.retry, ttl: before.ttl, max_ttl: before.max_ttl,
                min_failures: before.min_failures, ..settings
            };
            prop_assert_eq!(rest, before);
        }
    }
}
