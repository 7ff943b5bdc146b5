//! Characters behind their encodings: `%65`, `\u0065`, and either behind itself or the other (`%2565`, `\\u0065`,
//! `%5Cu0065`).

/// How often the digits of an escape may themselves be escapes (`%25%36%35`). Chains (`%252565`) have no bound.
const MAX_NESTING: u8 = 3;

/// How many backslashes in a row are one escape: JSON within JSON within JSON needs seven.
const MAX_BACKSLASHES: usize = 15;

/// The character at `at` and the place after it; `None` at the end of the text.
pub(super) fn read(text: &[u8], at: usize) -> Option<(u8, usize)> {
    nested(text, at, MAX_NESTING)
}

fn nested(text: &[u8], at: usize, nesting: u8) -> Option<(u8, usize)> {
    #[cfg(test)]
    READ.set(READ.get() + 1);
    let mut byte = *text.get(at)?;
    let mut next = at + 1;
    if nesting == 0 {
        return Some((byte, next));
    }
    // What an escape stands for may begin the next escape.
    while let Some((value, after)) = match byte {
        b'%' => hex(text, next, 2, nesting),
        b'\\' => unicode_escape(text, next, nesting),
        _ => None,
    } {
        // Beyond ASCII there is nothing that a token is made of.
        (byte, next) = (u8::try_from(value).ok().filter(u8::is_ascii)?, after);
    }
    Some((byte, next))
}

fn unicode_escape(text: &[u8], at: usize, nesting: u8) -> Option<(u32, usize)> {
    let backslashes = text[at..].iter().take(MAX_BACKSLASHES).take_while(|&&byte| byte == b'\\').count();
    let (letter, next) = nested(text, at + backslashes, nesting - 1)?;
    if letter == b'u' { hex(text, next, 4, nesting) } else { None }
}

/// The value of `digits` hexadecimal digits.
fn hex(text: &[u8], at: usize, digits: u8, nesting: u8) -> Option<(u32, usize)> {
    let (mut value, mut next) = (0, at);
    for _ in 0..digits {
        let (digit, after) = nested(text, next, nesting - 1)?;
        value = value << 4 | char::from(digit).to_digit(16)?;
        next = after;
    }
    Some((value, next))
}

#[cfg(test)]
thread_local! {
    static READ: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// How often a character was read on this thread: the scan's work, for tests that bound it.
#[cfg(test)]
pub(super) fn characters_read() -> u64 {
    READ.get()
}
