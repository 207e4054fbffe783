//! What a token is, and the roles it can have.

/// What a token is: a set of flags, since a file's type and what is known by text can both apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attr(pub u16);

impl Attr {
    /// Nothing known; the piece is empty.
    pub const UNDEFINED: Attr = Attr(0);
    /// Stands for text that has no token.
    pub const UNKNOWN: Attr = Attr(1);
    /// Reserved by the file, never meant to be produced.
    pub const UNUSED: Attr = Attr(1 << 1);
    /// Ordinary text.
    pub const NORMAL: Attr = Attr(1 << 2);
    /// Steers the model, is no text of its own.
    pub const CONTROL: Attr = Attr(1 << 3);
    /// Text that is always cut out whole before anything else.
    pub const USER_DEFINED: Attr = Attr(1 << 4);
    /// One raw byte, written `<0xHH>`.
    pub const BYTE: Attr = Attr(1 << 5);
    /// As a special token it swallows the white space before it.
    pub const LSTRIP: Attr = Attr(1 << 6);
    /// As a special token it swallows the white space after it.
    pub const RSTRIP: Attr = Attr(1 << 7);

    /// The flags of both.
    pub const fn or(self, other: Attr) -> Attr {
        Attr(self.0 | other.0)
    }
    /// Whether any flag of `mask` is set.
    pub const fn any(self, mask: Attr) -> bool {
        self.0 & mask.0 != 0
    }
    /// The attribute of a GGUF token type; numbers that mean nothing are [`Attr::UNDEFINED`].
    pub const fn from_gguf(kind: i32) -> Attr {
        match kind {
            1 => Attr::NORMAL,
            2 => Attr::UNKNOWN,
            3 => Attr::CONTROL,
            4 => Attr::USER_DEFINED,
            5 => Attr::UNUSED,
            6 => Attr::BYTE,
            _ => Attr::UNDEFINED,
        }
    }
}

/// The roles a token can have by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Role {
    /// Beginning of the text.
    Bos,
    /// End of the text.
    Eos,
    /// End of a turn.
    Eot,
    /// End of a message.
    Eom,
    /// Unknown text.
    Unk,
    /// Separator.
    Sep,
    /// Padding.
    Pad,
    /// Mask.
    Mask,
    /// Fill in the middle: the prefix follows.
    FimPre,
    /// Fill in the middle: the suffix follows.
    FimSuf,
    /// Fill in the middle: the middle follows.
    FimMid,
    /// Fill in the middle: padding.
    FimPad,
    /// Fill in the middle: a repository name follows.
    FimRep,
    /// Fill in the middle: file separator.
    FimSep,
}

/// Number of [`Role`]s.
pub const ROLES: usize = 14;

/// Ids by role.
pub type RoleIds = [Option<u32>; ROLES];
