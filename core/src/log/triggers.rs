//! Tells at once that a line has nothing that could decide about a failure, as most lines have not.

include!(concat!(env!("OUT_DIR"), "/triggers.rs"));

/// Whether any of the words and letters of `triggers.txt` is in `line`, so that it is worth reading.
pub fn is_worth_reading(line: &[u8]) -> bool {
    // What is known of a state without another byte is known with one that begins nothing.
    let end = line.iter().copied().chain([b'\n']).fold(START, |state, byte| {
        STATES[usize::from(state.wrapping_add(u16::from(CLASSES[usize::from(byte)])))]
    });
    end == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_any_place() {
        for line in ["Killed", "cc1plus: out of memory", "x ETXTBSY", "ok 1 - x", "exit 137", "Gerät", "std::bad_alloc"] {
            assert!(is_worth_reading(line.as_bytes()), "{line}");
        }
        for line in ["", "gcc -O2 -c -o src/x.o src/x.c", "token 1 - x", "installing x.svg"] {
            assert!(!is_worth_reading(line.as_bytes()), "{line}");
        }
    }
}
