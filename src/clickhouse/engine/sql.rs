//! As much of ClickHouse's SQL as this interface must see: where an INSERT's data begins, which format a result has,
//! and the clauses that are refused. The engine's own parser decides everything else.

/// A token's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A bare word or a number.
    Word,
    /// `` `name` `` or `"name"`.
    Quoted,
    /// `'text'` or `$$text$$`.
    Text,
    /// One byte of anything else.
    Mark,
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    text: &'a [u8],
    /// Offset of the byte after the token.
    end: usize,
    /// How many brackets are open around it.
    depth: usize,
}

impl Token<'_> {
    fn is(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word.as_bytes())
    }

    fn is_mark(&self, mark: u8) -> bool {
        self.kind == Kind::Mark && self.text == [mark]
    }

    /// The name that a word or a quoted identifier stands for.
    fn name(&self) -> Option<&[u8]> {
        match self.kind {
            Kind::Word => Some(self.text),
            Kind::Quoted => self.text.get(1..self.text.len().saturating_sub(1)),
            Kind::Text | Kind::Mark => None,
        }
    }
}

/// Splits a statement into tokens; comments and white space fall out.
struct Tokens<'a> {
    sql: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Tokens<'a> {
    fn of(sql: &'a [u8]) -> Self {
        Self { sql, at: 0, depth: 0 }
    }

    /// Moves past white space and comments.
    fn skip_blank(&mut self) {
        loop {
            let rest = &self.sql[self.at..];
            self.at += match rest {
                [byte, ..] if byte.is_ascii_whitespace() || *byte == 0x0b => 1,
                [b'-', b'-', ..] | [b'#', b' ' | b'!', ..] => length_to(rest, b"\n"),
                [b'/', b'*', ..] => 2 + length_to(&rest[2..], b"*/"),
                _ => return,
            };
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blank();
        let rest = &self.sql[self.at..];
        let (kind, length) = match *rest.first()? {
            b'\'' => (Kind::Text, quoted_length(rest, b'\'')),
            quote @ (b'`' | b'"') => (Kind::Quoted, quoted_length(rest, quote)),
            b'$' => match heredoc_length(rest) {
                Some(length) => (Kind::Text, length),
                None => (Kind::Mark, 1),
            },
            byte if is_word(byte) => {
                (Kind::Word, rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len()))
            }
            _ => (Kind::Mark, 1),
        };
        self.at += length;
        let text = &rest[..length];
        // A closing bracket belongs to the depth outside, as its opening one does.
        if let (Kind::Mark, b")" | b"]" | b"}") = (kind, text) {
            self.depth = self.depth.saturating_sub(1);
        }
        let token = Token { kind, text, end: self.at, depth: self.depth };
        if let (Kind::Mark, b"(" | b"[" | b"{") = (kind, text) {
            self.depth += 1;
        }
        Some(token)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Bytes up to and with the first `end`, or all.
fn length_to(bytes: &[u8], end: &[u8]) -> usize {
    memchr::memmem::find(bytes, end).map_or(bytes.len(), |at| at + end.len())
}

/// Length of a quoted token, both quotes included; a backslash or a doubled quote escapes.
fn quoted_length(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match *byte {
            b'\\' => at += 2,
            byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Length of `$tag$…$tag$`; `None` if `bytes` does not start one.
fn heredoc_length(bytes: &[u8]) -> Option<usize> {
    let tag = 1 + bytes.get(1..)?.iter().position(|byte| !is_word(*byte))?;
    (bytes.get(tag) == Some(&b'$')).then(|| {
        let opening = &bytes[..=tag];
        opening.len() + length_to(&bytes[opening.len()..], opening)
    })
}

/// Whether the text that has been read so far is an INSERT with data.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Insert {
    /// It is not, and more text will not change that.
    No,
    /// More text is needed to say.
    Unclear,
    /// It is: the data begins at `data`.
    At {
        /// The statement without its FORMAT or VALUES clause.
        head: String,
        /// `None`: neither FORMAT nor VALUES was written.
        format: Option<String>,
        /// Offset of the first byte of data.
        data: usize,
    },
}

/// Looks for an INSERT's data in `text`, which is `complete` or the beginning of a longer one.
pub(super) fn find_insert(text: &[u8], complete: bool) -> Insert {
    let undecided = if complete { Insert::No } else { Insert::Unclear };
    let mut tokens = Tokens::of(text);
    match tokens.next() {
        Some(first) if first.is("INSERT") && (complete || first.end < text.len()) => {}
        Some(first) if first.end < text.len() => return Insert::No,
        _ => return undecided,
    }
    let head = |end: usize| String::from_utf8_lossy(&text[..end]).trim_end().to_owned();
    let (mut before, mut selects, mut reads_input) = (tokens.at, false, false);
    while let Some(token) = tokens.next() {
        // A token that touches the end may go on in the next piece.
        if token.end == text.len() && !complete {
            return Insert::Unclear;
        }
        if token.is("input") {
            reads_input = true;
        }
        // `INSERT INTO t (SELECT …)` has its query in brackets.
        if (token.depth <= 1) && (token.is("SELECT") || token.is("WITH") || token.is("FROM")) {
            selects = true;
        }
        if token.depth == 0 && token.is("VALUES") && !selects {
            return Insert::At { head: head(before), format: Some("Values".to_owned()), data: token.end };
        }
        if token.depth == 0 && token.is("FORMAT") && (!selects || reads_input) {
            let Some(format) = tokens.next() else { return undecided };
            let Some(name) = format.name().filter(|_| complete || format.end < text.len()) else {
                return undecided;
            };
            let format = String::from_utf8_lossy(name).into_owned();
            return match data_start(text, tokens.at, complete) {
                Some(data) => Insert::At { head: head(before), format: Some(format), data },
                None => Insert::Unclear,
            };
        }
        before = token.end;
    }
    match (complete, selects) {
        (false, _) => Insert::Unclear,
        (true, true) => Insert::No,
        (true, false) => Insert::At { head: head(text.len()), format: None, data: text.len() },
    }
}

/// Where data begins after the format's name: after blanks and at most one line break, as in ClickHouse.
fn data_start(text: &[u8], mut at: usize, complete: bool) -> Option<usize> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t' | 0x0c));
    while blank(text.get(at)) {
        at += 1;
    }
    if text.get(at) == Some(&b'\r') {
        at += 1;
    }
    match text.get(at) {
        Some(b'\n') => Some(at + 1),
        Some(_) => Some(at),
        None => complete.then_some(at),
    }
}

/// What a whole statement says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The first word, in upper case; empty if there is none.
    pub(super) verb: String,
    /// The last FORMAT clause.
    pub(super) format: Option<String>,
    /// More than one statement.
    pub(super) several: bool,
    /// INTO OUTFILE or FROM INFILE.
    pub(super) touches_files: bool,
    /// An INSERT after a WITH.
    pub(super) inserts: bool,
    /// WITH TOTALS.
    pub(super) totals: bool,
}

/// Reads a whole statement.
pub(super) fn inspect(sql: &str) -> Facts {
    let tokens: Vec<Token<'_>> = Tokens::of(sql.as_bytes()).collect();
    let mut facts = Facts::default();
    if let Some(first) = tokens.iter().find(|token| !token.is_mark(b'(')) {
        facts.verb = String::from_utf8_lossy(first.text).to_ascii_uppercase();
    }
    let mut ended = false;
    for (at, token) in tokens.iter().enumerate() {
        let next = tokens.get(at + 1);
        facts.several |= ended && !token.is_mark(b';');
        ended |= token.depth == 0 && token.is_mark(b';');
        let followed_by = |word: &str| next.is_some_and(|next| next.is(word));
        facts.touches_files |=
            (token.is("INTO") && followed_by("OUTFILE")) || (token.is("FROM") && followed_by("INFILE"));
        facts.totals |= token.is("WITH") && followed_by("TOTALS");
        facts.inserts |= token.depth == 0 && token.is("INSERT");
        if token.depth == 0
            && token.is("FORMAT")
            && let Some(name) = next.and_then(Token::name)
            && tokens.get(at + 2).is_none_or(|after| after.is_mark(b';') || after.is("SETTINGS"))
        {
            facts.format = Some(String::from_utf8_lossy(name).into_owned());
        }
    }
    facts
}

/// Whether a SETTINGS clause stands anywhere in the statement. `sql` must be the engine's own rendering, so that this
/// reading and the engine's cannot differ.
pub(super) fn has_settings_clause(sql: &str) -> bool {
    let tokens: Vec<Token<'_>> = Tokens::of(sql.as_bytes()).collect();
    tokens.windows(3).any(|window| {
        matches!(window, [settings, name, next] if settings.is("SETTINGS")
            && name.name().is_some()
            && (next.is_mark(b'=') || next.is_mark(b'.')))
    })
}

/// Whether a word or a quoted name of the statement is `name`, in any case.
pub(super) fn mentions(sql: &str, name: &str) -> bool {
    Tokens::of(sql.as_bytes())
        .any(|token| token.name().is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes())))
}

/// Whether the statement calls a function `name`, in any case, or reads a table function of that name.
pub(super) fn calls(sql: &str, name: &str) -> bool {
    let tokens: Vec<Token<'_>> = Tokens::of(sql.as_bytes()).collect();
    tokens.windows(2).any(|window| {
        matches!(window, [called, next] if next.is_mark(b'(')
            && called.name().is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes())))
    })
}

/// `text` as a string literal.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// `name` as a quoted identifier.
pub(super) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// `text` as the value of a `{name:String}` parameter: one field of TabSeparated.
pub(super) fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('\t', "\\t")
        .replace('\r', "\\r")
        .replace('\0', "\\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inserts_data_begins_after_its_format() {
        let check = |text: &str, head: &str, format: &str, data: &str| {
            let expected = Insert::At {
                head: head.to_owned(),
                format: (!format.is_empty()).then(|| format.to_owned()),
                data: text.len() - data.len(),
            };
            assert_eq!(find_insert(text.as_bytes(), true), expected, "{text:?}");
        };
        check("INSERT INTO t FORMAT CSV\n1,2\n", "INSERT INTO t", "CSV", "1,2\n");
        check("insert into t(a, b) format RowBinary\n\n\0", "insert into t(a, b)", "RowBinary", "\n\0");
        check("INSERT INTO t VALUES (1), (2)", "INSERT INTO t", "Values", " (1), (2)");
        check("INSERT INTO t SETTINGS a=1 FORMAT TSV \r\nx", "INSERT INTO t SETTINGS a=1", "TSV", "x");
        check(
            "/* values */ INSERT INTO `FORMAT` FORMAT TSV x",
            "/* values */ INSERT INTO `FORMAT`",
            "TSV",
            "x",
        );
        check("INSERT INTO t", "INSERT INTO t", "", "");
        check(
            "INSERT INTO t (values, format) VALUES(1,2)",
            "INSERT INTO t (values, format)",
            "Values",
            "(1,2)",
        );
        check(
            "INSERT INTO t SELECT a FROM input('a UInt8') FORMAT CSV\n1",
            "INSERT INTO t SELECT a FROM input('a UInt8')",
            "CSV",
            "1",
        );
    }

    #[test]
    fn a_cut_text_is_unclear_until_the_data_has_begun() {
        let text = b"INSERT INTO t FORMAT RowBinary\nDATA";
        for cut in 0..text.len() {
            let found = find_insert(&text[..cut], false);
            assert_eq!(found == Insert::Unclear, cut < 31, "{:?}", String::from_utf8_lossy(&text[..cut]));
        }
    }

    #[test]
    fn what_has_no_data_is_no_insert() {
        for text in [
            "SELECT 1 FORMAT CSV",
            "INSERT INTO t SELECT 1",
            "INSERT INTO t (SELECT 1)",
            "INSERT INTO t WITH 1 AS a SELECT a FORMAT CSV",
            "",
            "-- INSERT INTO t VALUES",
        ] {
            assert_eq!(find_insert(text.as_bytes(), true), Insert::No, "{text:?}");
        }
    }

    #[test]
    fn a_statement_tells_what_is_refused_or_streamed() {
        let facts = |sql: &str| inspect(sql);
        assert_eq!(facts("(SELECT 1) FORMAT JSON").verb, "SELECT");
        assert_eq!(facts("SELECT 1 FORMAT JSON;").format.as_deref(), Some("JSON"));
        assert_eq!(facts("SELECT 1 format csv SETTINGS a=1").format.as_deref(), Some("csv"));
        assert_eq!(facts("SELECT format FROM t").format, None);
        assert_eq!(facts("SELECT 'FORMAT CSV'").format, None);
        assert!(facts("SELECT 1; SELECT 2").several);
        assert!(!facts("SELECT ';' ; -- ;x").several);
        assert!(facts("SELECT 1 INTO/**/OUTFILE 'x'").touches_files);
        assert!(facts("INSERT INTO t FROM INFILE 'x'").touches_files);
        assert!(!facts("SELECT 'INTO OUTFILE', $$INTO OUTFILE$$, `INTO` OUTFILE").touches_files);
        assert!(facts("WITH 1 AS a INSERT INTO t SELECT a").inserts);
    }

    #[test]
    fn settings_are_found_wherever_they_stand() {
        assert!(has_settings_clause("SELECT 1 FROM (SELECT 2 SETTINGS a = 1, b = 2)"));
        assert!(has_settings_clause("SELECT 1 SETTINGS `c` = 3"));
        assert!(!has_settings_clause("SELECT settings AS x, 'SETTINGS a = 1' FROM t ORDER BY settings DESC"));
        assert!(mentions("SELECT File('x')", "file"));
        assert!(mentions("SELECT * APPLY `file`", "file"));
        assert!(!mentions("SELECT 'file'", "file"));
        assert!(calls("SELECT * FROM merge('system', 'x')", "merge"));
        assert!(!calls("SELECT merge FROM t WHERE merge > (1)", "merge"));
    }
}
