//! How a build ended: five bytes of circumstances, Nix's messages, each with a NUL after it, and the log. `@` in a message
//! stands for the derivation.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nix_negative_cache_core::build_status::BuildStatus;
use nix_negative_cache_core::class::Class;
use nix_negative_cache_core::judgement::{EndedBuild, Judgement, judge};
use nix_negative_cache_core::log::tail::printable;
use nix_negative_cache_core::machine::Shortage;
use nix_negative_cache_core::settings::Settings;
use nix_negative_cache_core::store_path::DerivationPath;
use nix_negative_cache_core::store_path::OutputKey;
use nix_negative_cache_fuzz::{assert_plain, log_judge, take};

const DRV: &str = "/nix/store/7r40h4gj6rsaw6xnsq7vj128dpiawa94-x.drv";
// So that seeds can begin with a digit: '0' is the first one.
const STATUS: [BuildStatus; 8] = [
    BuildStatus::PermanentFailure,
    BuildStatus::Built,
    BuildStatus::TimedOut,
    BuildStatus::LogLimitExceeded,
    BuildStatus::TransientFailure,
    BuildStatus::Other,
    BuildStatus::Reported,
    BuildStatus::OutputRejected,
];
const OUT: &str = "/nix/store/2bkmr3zjd3xq9pgnhmsp2s4j2ndyk3dj-x";

fuzz_target!(|data: &[u8]| {
    let mut data = data;
    let [status, flags, more, shortage, transient] = take(&mut data);
    let mut parts: Vec<&[u8]> = data.split(|byte| *byte == 0).collect();
    let log = log_judge(parts.pop().unwrap_or_default());
    let messages: Vec<String> = parts.iter().map(|part| String::from_utf8_lossy(part).replace('@', DRV)).collect();
    let derivation = DerivationPath::from(DRV);
    let outputs = [OutputKey::from(OUT)];
    // All clear with zeros, or with the digits that seeds begin with.
    let flag = |byte: u8, bit: u8| byte & (1 << bit) != 0 && byte != b'0';
    let build = EndedBuild {
        derivation: &derivation,
        status: STATUS[usize::from(status.wrapping_sub(b'0')) % STATUS.len()],
        messages: &messages,
        log: &log,
        fixed_output: flag(flags, 0),
        impure: flag(flags, 1),
        builtin: flag(flags, 2),
        machine: flag(flags, 3).then_some("ssh://b"),
        outputs: if flag(flags, 4) { &[] } else { &outputs },
        normal_mode: !flag(flags, 5),
        interrupted: flag(flags, 6),
        recursive: flag(flags, 7),
        opted_out: flag(more, 0),
        sandboxed: flag(more, 3).then(|| flag(more, 4)),
        shortage: match shortage {
            1 => Some(Shortage::OutOfMemory),
            2 => Some(Shortage::MemoryPressure),
            3 => Some(Shortage::Disk("/build".into())),
            _ => None,
        },
        by_daemon: flag(more, 5),
    };
    let settings = Settings {
        timeouts: flag(more, 1),
        fixed_output: flag(more, 2),
        transient_exit_codes: vec![i32::from(transient)],
        ..Settings::default()
    };

    let judgement = judge(&build, &settings);
    assert_eq!(judgement == Judgement::Succeeded, build.status == BuildStatus::Built);
    match &judgement {
        Judgement::Succeeded => (),
        Judgement::Ignore(_, reason) => assert_plain(&reason.to_string()),
        Judgement::Record(class, code, doubtful) => {
            doubtful.iter().for_each(|suspicion| assert_plain(&suspicion.to_string()));
            assert!(settings.records(*class));
            assert!(build.status != BuildStatus::Other || build.machine.is_some());
            let output = *class == Class::Output;
            assert!(build.shortage.is_none());
            assert!(build.normal_mode && !build.outputs.is_empty());
            let out = [build.interrupted, build.impure, build.recursive, build.opted_out];
            assert!(!out.contains(&true));
            let limit = matches!(class, Class::Timeout | Class::Silence | Class::LogLimit);
            assert_eq!(code.is_none(), limit || output);
            assert_eq!(*class == Class::Fetch, !limit && !output && (build.fixed_output || build.builtin));
            if let Some(code) = code {
                // What exit(3) can say, but for success and for what a shell says of signals.
                assert!(matches!(code, 1..=128 | 132..=134 | 136 | 139 | 159 | 193..=255), "exit code {code}");
                assert_ne!(*code, i32::from(transient));
                assert!(messages.iter().any(|message| is_code_of_the_builder(message, *code)), "{messages:?}");
            }
        }
    }

    // What a message quotes of the log belongs to the builder, and must not count.
    let quoting: Vec<String> = messages
        .iter()
        .map(|message| format!("{message}\nlast 2 log lines:\n> x\nbuilder for '{DRV}' failed with exit code 1\n"))
        .collect();
    assert_eq!(judge(&EndedBuild { messages: &quoting, ..build.clone() }, &settings), judgement);
});

/// Whether the beginning of the message names the derivation and then the code.
fn is_code_of_the_builder(message: &str, code: i32) -> bool {
    let beginning: Vec<String> = message.lines().take(2).map(|line| printable(line.as_bytes())).collect();
    let beginning = beginning.join("\n");
    let Some((named, said)) = beginning.split_once("failed with exit code ") else { return false };
    let digits = said.trim_start_matches(['+', '0']);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    named.contains(&format!("'{DRV}'")) && digits[..end] == code.to_string()
}
