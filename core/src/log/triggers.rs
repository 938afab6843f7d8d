//! Tells quickly that a line can't decide about a failure, as most lines can't.

include!(concat!(env!("OUT_DIR"), "/triggers.rs"));

/// Whether any of the words and letters of `triggers.txt` is in `line`, so that it is worth reading.
pub fn is_worth_reading(line: &[u8]) -> bool {
    let mut state = START;
    // Eight at a time: the loop itself would take a third of the time.
    let (eights, rest) = line.as_chunks::<8>();
    for eight in eights {
        state = eight.iter().copied().fold(state, next);
    }
    state = rest.iter().copied().fold(state, next);
    // Only the next byte shows that the last one ends a word.
    next(state, b'\n') == 0
}

/// The state behind `byte`. The sum can't leave the table, so nothing has to be checked.
#[inline(always)]
fn next(state: u16, byte: u8) -> u16 {
    STATES[usize::from(state.wrapping_add(CLASSES[usize::from(byte)]))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_any_place() {
        for line in ["Killed", "cc1plus: out of memory", "x ETXTBSY", "ok 1 - x", "exit 137", "Gerät", "std::bad_alloc"]
        {
            assert!(is_worth_reading(line.as_bytes()), "{line}");
        }
        for line in ["", "gcc -O2 -c -o src/x.o src/x.c", "token 1 - x", "installing x.svg"] {
            assert!(!is_worth_reading(line.as_bytes()), "{line}");
        }
    }
}
