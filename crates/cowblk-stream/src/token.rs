//! Token: how far a receiver got, as a text that travels back to the sender.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};
use crate::fields::{Cursor, Fields};
use crate::header::{Header, Identity, Position};

const PREFIX: &str = "r1-";
const CHECK_BYTES: usize = 4;
const BYTES: usize = 16 + 16 + 4 + 8 + CHECK_BYTES;

/// Which snapshot, on top of which, from where on. Its text is `r1-` and 96 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The snapshot that is being received.
    pub snapshot: Identity,
    /// The one that it builds on.
    pub base: Option<Identity>,
    /// Everything before this place is durable at the receiver.
    pub position: Position,
}

impl Token {
    pub(crate) fn of(header: &Header, position: Position) -> Self {
        let base = header.base.as_ref().map(|base| base.identity);
        Self { snapshot: header.snapshot.identity, base, position }
    }

    /// The token without its check.
    pub(crate) fn fields(&self) -> Vec<u8> {
        let mut fields = Fields::default();
        fields.bytes(&self.snapshot.0).bytes(&self.base.map_or([0; 16], |base| base.0));
        fields.u32(self.position.disk).u64(self.position.offset);
        fields.0
    }

    pub(crate) fn from_fields(bytes: &[u8]) -> Result<Self> {
        let mut cursor = Cursor(bytes);
        let (snapshot, base) = (Identity(cursor.array()?), Identity(cursor.array()?));
        let position = Position { disk: cursor.u32()?, offset: cursor.u64()? };
        Ok(Self { snapshot, base: (base.0 != [0; 16]).then_some(base), position })
    }
}

fn check(fields: &[u8]) -> [u8; CHECK_BYTES] {
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&blake3::hash(fields).as_bytes()[..CHECK_BYTES]);
    check
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.fields();
        f.write_str(PREFIX)?;
        fields.iter().chain(&check(&fields)).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(
                ErrorKind::BadToken,
                "this is no token that `cowblk receive` printed, or only a part of it",
            )
        };
        let digits = text.trim().strip_prefix(PREFIX).ok_or_else(wrong)?.as_bytes();
        if digits.len() != 2 * BYTES {
            return Err(wrong());
        }
        let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        let bytes: Option<Vec<u8>> =
            digits.chunks_exact(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect();
        let bytes = bytes.ok_or_else(wrong)?;
        let (fields, found) = bytes.split_at(BYTES - CHECK_BYTES);
        if found == check(fields) { Self::from_fields(fields) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_and_no_typo() {
        let token = Token {
            snapshot: Identity([7; 16]),
            base: Some(Identity([1; 16])),
            position: Position { disk: 3, offset: 1 << 40 },
        };
        let text = token.to_string();
        assert_eq!(text.len(), PREFIX.len() + 96);
        assert_eq!(text.parse::<Token>().unwrap(), token);
        for at in 0..text.len() {
            let mut typo = text.clone().into_bytes();
            typo[at] = if typo[at] == b'0' { b'1' } else { b'0' };
            let typo = String::from_utf8(typo).unwrap();
            assert_eq!(typo.parse::<Token>().unwrap_err().kind(), ErrorKind::BadToken, "{typo}");
        }
        for wrong in ["", "r1-", "r1-12", &text[..text.len() - 2], "é", "r2-00"] {
            assert_eq!(wrong.parse::<Token>().unwrap_err().kind(), ErrorKind::BadToken, "{wrong}");
        }
    }
}
