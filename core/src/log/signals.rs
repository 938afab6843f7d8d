//! Finds lines which say that a signal from outside ended a process: SIGKILL or SIGTERM, in the words of any tool that
//! tells of its child.

/// A word of a line in small letters, with its neighbours.
struct Word<'a> {
    text: &'a str,
    /// The character before it.
    before: Option<char>,
    /// The character behind it.
    after: Option<char>,
}

fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = text;
    let mut before = None;
    while let Some(first) = rest.chars().next() {
        let length = rest.find(|c| !of_word(c)).unwrap_or(rest.len());
        if length > 0 {
            let (word, behind) = rest.split_at(length);
            words.push(Word { text: word, before, after: behind.chars().next() });
            before = word.chars().next_back();
            rest = behind;
        } else {
            before = Some(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    words
}

/// The word for a signal in several languages.
const SIGNAL: [&str; 24] = [
    "signal",
    "sig",
    "signo",
    "signum",
    "signaled",
    "signalled",
    "processsignaled",
    "señal",
    "segnale",
    "sinal",
    "sygnał",
    "sygnałem",
    "сигнал",
    "сигналом",
    "сигналу",
    "signál",
    "signálem",
    "信号",
    "シグナル",
    "시그널",
    "신호",
    "jel",
    "sinyal",
    "signalet",
];

/// Words that come before an exit status.
const STATUS: [&str; 28] = [
    "status",
    "code",
    "exit",
    "exited",
    "exitcode",
    "exit_code",
    "exitstatus",
    "exit_status",
    "exitfailure",
    "returned",
    "return",
    "returncode",
    "retcode",
    "rc",
    "error",
    "value",
    "ret",
    "result",
    "with",
    "errorlevel",
    "returns",
    "exitvalue",
    "rv",
    "ended",
    "died",
    "failure",
    "retval",
    "wstat",
];

/// Words for what happened to a process.
const FATES: [&str; 27] = [
    "killed",
    "terminated",
    "exited",
    "died",
    "signal",
    "received",
    "got",
    "failed",
    "crashed",
    "ended",
    "caught",
    "stopped",
    "dead",
    "exit",
    "code",
    "worker",
    "signaled",
    "lost",
    "aborted",
    "terminating",
    "terminate",
    "interrupted",
    "exitsignal",
    "codes",
    "workers",
    "processes",
    "status",
];

/// How sure it is that the signal came from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Sure: SIGKILL, or SIGTERM that ended a child of the tool.
    Killed,
    /// Less sure: SIGTERM in the words of a shell or of the process itself. A script also ends what it has started like that.
    Terminated,
}

/// Whether `message` says that a signal ended a process, and how sure it is that the signal came from outside.
pub fn ended(message: &str) -> Option<Ended> {
    let lower = message.to_lowercase();
    let text = lower.trim_end_matches(['.', ';', ',', '!', ' ', ')', ']', '"', '\'', '`']);
    // QEMU says so whenever a test has ended it.
    if is_code(&lower) || lower.contains("terminating on signal") {
        return None;
    }
    match text {
        "killed" | "(killed" | "[killed" | "oom-killed" | "oomkilled" => return Some(Ended::Killed),
        "terminated" => return Some(Ended::Terminated),
        _ => {}
    }
    let words = words(&lower);
    let is = |place: usize, list: &[&str]| words.get(place).is_some_and(|word| list.contains(&word.text));
    for (place, word) in words.iter().enumerate() {
        let before = |back: usize| place.checked_sub(back);
        let follows = |back: usize, list: &[&str]| before(back).is_some_and(|place| is(place, list));
        let found = match word.text {
            "9" | "15" => {
                let by_name =
                    is(place + 1, &["kill", "term", "sigkill", "sigterm"]) && follows(1, &["status", "signal"]);
                let negative = word.before == Some('-') && (1..=3).any(|back| follows(back, &STATUS));
                let with_name = follows(1, &["killed", "terminated", "sigkill", "sigterm", "kill", "term"])
                    && matches!(word.before, Some('(' | ':' | '-' | '[' | '='));
                let whole = !matches!(word.after, Some('.' | '%' | '/'))
                    || word.text == "9" && by_name
                    || is_end(word.after, &lower);
                whole
                    && (follows(1, &SIGNAL)
                        || follows(2, &SIGNAL)
                            && follows(1, &["number", "no", "num", "nr", "code", "is", "was", "of", "to"])
                        || by_name
                        || negative
                        || with_name)
            }
            "137" | "143" => {
                let whole = !matches!(word.after, Some('/' | '%' | '-'))
                    && !matches!(word.before, Some('.' | '/' | '-' | '#' | '$'));
                let of_make = lower.contains("*** [") && place + 1 == words.len();
                whole
                    && (of_make
                        || (1..=4).any(|back| follows(back, &STATUS))
                            && !lower.contains("line 137")
                            && !lower.contains("line 143"))
            }
            "sigkill" | "sigterm" => {
                let fate =
                    words.iter().any(|word| FATES.contains(&word.text) && !std::ptr::eq(word.text, words[place].text));
                // Some runners of tests put how one ended in front of its name.
                (fate || place == 0) && !(word.text == "sigterm" && lower.contains("handler"))
            }
            "kill" | "term" => follows(1, &["signal"]) && !is(place + 1, &["handler", "handling"]),
            "killed" => is_killed(&lower, &words, place),
            "terminated" => {
                lower.contains("terminated signal terminated") || lower.contains("*** [") && place + 1 == words.len()
            }
            "oomkilled" | "oomkill" => true,
            "oom" => {
                is(place + 1, &["kill", "killed", "killer"]) && !lower.contains("_oom") && !lower.contains("oom_score")
            }
            _ => false,
        };
        if found {
            // A server says so itself when a test ends it.
            let itself = matches!(word.text, "sigterm" | "15" | "term")
                && ["received", "caught", "handling", "graceful", "shutting", "shutdown", "exiting", "stopping"]
                    .iter()
                    .any(|said| lower.contains(said));
            return Some(if itself { Ended::Terminated } else { Ended::Killed });
        }
    }
    None
}

fn is_end(after: Option<char>, line: &str) -> bool {
    after == Some('.') && line.trim_end().ends_with('.')
}

/// Whether the word `killed` at `place` tells of a process, and is no name or number of something else.
fn is_killed(line: &str, words: &[Word<'_>], place: usize) -> bool {
    let word = &words[place];
    let next = words.get(place + 1).map(|word| word.text);
    let previous = place.checked_sub(1).and_then(|place| words.get(place)).map(|word| word.text);
    let last = next.is_none();
    match (previous, next) {
        (_, Some("signal")) | (_, Some("by")) => {
            // Only if a signal, a system or a limit did it, not a test.
            matches!(next, Some("signal"))
                || words[place + 1..].iter().take(8).any(|word| {
                    SIGNAL.contains(&word.text)
                        || matches!(
                            word.text,
                            "oom"
                                | "kernel"
                                | "os"
                                | "operating"
                                | "system"
                                | "systemd"
                                | "earlyoom"
                                | "user"
                                | "memory"
                                | "scheduler"
                                | "supervisor"
                                | "sigkill"
                                | "killer"
                                | "container"
                                | "runner"
                        )
                })
        }
        (
            Some(
                "was" | "been" | "got" | "is" | "process" | "child" | "subprocess" | "were" | "job" | "worker"
                | "compiler" | "linker" | "be",
            ),
            _,
        ) => {
            last || matches!(word.after, Some('.' | ',' | ';' | ')' | ':' | '!' | '*'))
                || matches!(
                    next,
                    Some(
                        "because"
                            | "due"
                            | "or"
                            | "in"
                            | "before"
                            | "while"
                            | "unexpectedly"
                            | "externally"
                            | "abruptly"
                            | "with"
                            | "for"
                            | "process"
                            | "during"
                            | "after"
                    )
                )
        }
        // `*** [x] Killed`, `x: Killed`, `(Killed)`.
        // What Erlang calls a process that another one ended.
        (Some("exit" | "reason"), _) if line.contains("exit: killed") || line.contains("reason: killed") => false,
        _ if last => {
            let place = line.rfind("killed").unwrap_or(0);
            let before = line[..place].trim_end();
            before.ends_with([':', ']', '(', '[', '*']) || line.contains("*** [")
        }
        (None, Some("process")) => true,
        (Some("memory"), Some("process")) => true,
        _ => {
            word.before == Some('(') && word.after == Some(')')
                || word.before == Some('[') && word.after == Some(']')
                || line.contains("=killed,")
        }
    }
}

/// Whether a line is source code, which mentions signals and statuses without having met one.
fn is_code(line: &str) -> bool {
    const CODE: [&str; 8] = ["==", "!=", "[[ ", "${", "$status", "=> ", "#define", "const "];
    CODE.iter().any(|code| line.contains(code)) || sends(line)
}

/// Whether a line, in small letters, is code that sends or catches a signal.
fn sends(line: &str) -> bool {
    const SENDS: [&str; 10] = [
        "kill -",
        "pkill",
        "killall",
        "signal.sig",
        "signals.sig",
        "signal(sig",
        "sigaction",
        ").kill",
        "raise(sig",
        "trap ",
    ];
    // Python names the signal like that as well, when a child died of it.
    let calls = line.match_indices("kill(").any(|(place, _)| !line[..place].ends_with(char::is_alphanumeric));
    (calls || SENDS.iter().any(|code| line.contains(code))) && !line.contains("died with <signals.sig")
}

/// Whether a line is code of a program that sends signals itself.
pub fn sends_signals(line: &str) -> bool {
    sends(&line.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_words_of_many_tools() {
        for line in [
            "Killed",
            "g++: fatal error: Killed signal terminated program cc1plus",
            "collect2: fatal error: ld terminated with signal 15 [Terminated]",
            "collect2: schwerwiegender Fehler: ld mit Signal 9 [Getötet] beendet",
            "clang: error: unable to execute command: Killed",
            "make: *** [Makefile:12: check] Killed",
            "make[2]: *** [Makefile:12: check] Error 137",
            "make: *** [Makefile:3: all] Fehler 137",
            "gmake: *** [x.o] Terminated",
            "compile: signal: killed",
            "subprocess.CalledProcessError: Command '['make']' died with <Signals.SIGKILL: 9>.",
            "process didn't exit successfully: `rustc --crate-name x` (signal: 9, SIGKILL: kill)",
            "npm ERR! signal SIGKILL",
            "js_of_ocaml x.js (got signal KILL)",
            "ExitFailure (-9)",
            "`gcc' failed in phase `C Compiler'. (Exit code: -9)",
            "Process(`julia`, ProcessSignaled(9)) [0]",
            "Static worker exited with code: null and signal: SIGKILL",
            "was terminated by another process: signal=SIGKILL, exitCode=null.",
            "DataLoader worker (pid 1371) is killed by signal: Killed.",
            "error MSB6006: \"csc.dll\" exited with code 143.",
            "Image build request failed with exit status 137",
            "Process Exit Code: 137",
            "ninja: job terminated due to signal 9: cd /build",
            "app.service: Main process exited, code=killed, status=9/KILL",
            "Memory cgroup out of memory: Killed process 812 (hog) total-vm:413212kB",
            "the worker was killed by the operating system",
            "exit status: 137",
            "qemu: uncaught target signal 9 (Killed) - core dumped",
            "SIGKILL [   9.512s] mycrate tests::x",
            "12/60 Test  #12: big ...........Subprocess killed***Exception:   9.12 sec",
            "xargs: sh: terminated by signal 9",
            "The command '/bin/sh -c make' returned a non-zero code: 137",
            "signal 9",
        ] {
            assert_eq!(ended(line), Some(Ended::Killed), "{line}");
        }
        assert_eq!(ended("nginx: signal 15 (SIGTERM) received, exiting"), Some(Ended::Terminated));
        assert_eq!(ended("Terminated"), Some(Ended::Terminated));
    }

    #[test]
    fn not_of_what_it_is_not() {
        for line in [
            "kill(in->proc.pid, SIGKILL);",
            "    os.kill(worker.pid, signal.SIGKILL)",
            "compilation terminated.",
            "*** buffer overflow detected ***: terminated",
            "Killed 3 mutants",
            "error: variable 'killed' set but not used",
            "make: *** [Makefile:12: check] Error 1",
            "at line 137: error",
            "x.c:137: error: no",
            "137 tests, 0 failures",
            "qemu-system-x86_64: terminating on signal 15 from pid 6 (python3.12)",
            "kill machine (pid 8)",
            "process exited with code 1",
            "version 15.9",
            "step 9 of 15",
            "(signal: 6, SIGABRT: process abort signal)",
            "terminated by signal 11",
        ] {
            assert_eq!(ended(line), None, "{line}");
        }
    }
}
