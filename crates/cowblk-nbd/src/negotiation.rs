//! Negotiation: from the greeting to an export and a style, without I/O.
//!
//! Bytes of the client go in, replies come out, and the driver is told what to do next. Every name and
//! length is bounded before anything is kept, and every refusal says what was refused.

use crate::codec::{
    ClientFlags, ContextQuery, Decoded, InfoQuery, OptionCode, OptionHead, OptionReply, PAYLOAD_BYTES_MAX,
    STRING_BYTES_MAX, Style, answer, answers, cut, info, transmission,
};

/// Largest data of an option that is read; more is skipped and refused (bytes).
const OPTION_BYTES_MAX: u32 = 64 << 10;
/// Largest data of an option that is skipped; a client that announces more is not followed any further.
const SKIP_BYTES_MAX: u32 = 32 << 20;
/// Most options of one negotiation: a list of that many exports can still be asked about, one by one.
const OPTIONS_MAX: u32 = 1 << 16;
/// Most contexts that one connection can choose.
const CONTEXTS_MAX: usize = 64;

/// What there is to be served.
pub trait Directory {
    /// One export, ready to be used.
    type Export: Exported;

    /// Names and descriptions of what a client is shown.
    fn list(&self) -> Vec<Listed>;

    /// The export of this name; the empty name is the default one's.
    ///
    /// # Errors
    /// Why it is not to be had.
    fn find(&self, name: &str) -> Result<Self::Export, Refusal>;
}

/// An export in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What a client asks for.
    pub name: String,
    /// A text for people.
    pub description: String,
}

/// Why an export is not to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is none of that name; the sentence says which there are, or what to do.
    Unknown(String),
    /// The server is going down.
    Shutdown,
}

/// What the negotiation needs to know about an export.
pub trait Exported {
    /// The name that the server gives it, whatever the client called it.
    fn name(&self) -> &str;
    /// A text for people.
    fn description(&self) -> String;
    /// Bytes that it has.
    fn size_bytes(&self) -> u64;
    /// Whether writes are refused.
    fn is_read_only(&self) -> bool;
    /// Whether several connections see one content and one flush.
    fn can_multi_conn(&self) -> bool;
    /// The size at which requests are served best: a power of two (bytes).
    fn preferred_block_bytes(&self) -> u32;
    /// The metadata contexts that it has.
    fn contexts(&self) -> Vec<String>;
    /// Whether it has this one.
    fn has_context(&self, name: &str) -> bool;
}

/// A metadata context that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// What replies call it.
    pub id: u32,
    /// Its name.
    pub name: String,
}

/// What was agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed<E> {
    /// What is served.
    pub export: E,
    /// How requests and replies look.
    pub style: Style,
    /// The contexts that `BLOCK_STATUS` tells of.
    pub contexts: Vec<Context>,
}

/// What the driver does next, after it sent the replies.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<E> {
    /// Wait until there are at least this many bytes.
    Read(usize),
    /// Drop this many bytes, and call again.
    Used(usize),
    /// Drop this many bytes, and begin TLS. Bytes behind them are somebody's who wants to be taken for
    /// the client: the session ends.
    StartTls(usize),
    /// Drop this many bytes; what follows are requests.
    Transmit(usize, Agreed<E>),
    /// The session ends.
    Close(&'static str),
}

/// Whether the session must be, or is, in TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// There is none.
    Off,
    /// Nothing is told before TLS began.
    Required,
    /// It began.
    On,
}

/// The state of a negotiation.
#[derive(Debug)]
pub struct Negotiation {
    tls: Tls,
    flags: Option<ClientFlags>,
    style: Style,
    /// The export that contexts were chosen for, by the server's name, and the contexts.
    contexts: Option<(String, Vec<Context>)>,
    to_skip: usize,
    options: u32,
}

impl Negotiation {
    /// The state right after the [`greeting`](crate::codec::greeting) was sent.
    pub fn new(tls: Tls) -> Self {
        Self { tls, flags: None, style: Style::Simple, contexts: None, to_skip: 0, options: 0 }
    }

    /// TLS began: what was agreed on in the open is forgotten.
    pub fn tls_began(&mut self) {
        *self = Self { tls: Tls::On, flags: self.flags, options: self.options, ..Self::new(Tls::On) };
    }

    /// Looks at the bytes that are there, appends replies to `out`, and says what to do next.
    pub fn step<D: Directory>(&mut self, input: &[u8], directory: &D, out: &mut Vec<u8>) -> Step<D::Export> {
        if self.to_skip > 0 {
            let skipped = self.to_skip.min(input.len());
            self.to_skip -= skipped;
            return if skipped == 0 { Step::Read(1) } else { Step::Used(skipped) };
        }
        if self.flags.is_none() {
            return match ClientFlags::decode(input) {
                Decoded::Incomplete(needed) => Step::Read(needed),
                Decoded::Broken => Step::Close("the client set a flag that was not offered"),
                Decoded::Value(flags, used) => {
                    self.flags = Some(flags);
                    Step::Used(used)
                }
            };
        }
        let (head, start) = match OptionHead::decode(input) {
            Decoded::Incomplete(needed) => return Step::Read(needed),
            Decoded::Broken => return Step::Close("what the client sent is no option"),
            Decoded::Value(head, start) => (head, start),
        };
        if head.len > SKIP_BYTES_MAX {
            return Step::Close("the client announced an option of more than 32 MiB");
        }
        let len = usize::try_from(head.len).unwrap_or(usize::MAX);
        if head.len > OPTION_BYTES_MAX {
            if head.code == OptionCode::ExportName || !self.is_fixed() {
                return Step::Close("the export's name is too long");
            }
            OptionReply::encode(head.code, answer::TOO_BIG, b"the option carries more than 64 KiB", out);
            self.to_skip = len;
            return Step::Used(start);
        }
        let Some(data) = input.get(start..start + len) else { return Step::Read(start + len) };
        self.options += 1;
        if self.options > OPTIONS_MAX {
            return Step::Close("the client sent 65536 options and no end");
        }
        self.option(head.code, data, directory, out).after(start + len)
    }

    fn is_fixed(&self) -> bool {
        self.flags.is_some_and(|flags| flags.is_fixed)
    }

    fn option<D: Directory>(
        &mut self,
        code: OptionCode,
        data: &[u8],
        directory: &D,
        out: &mut Vec<u8>,
    ) -> Next<D::Export> {
        if !self.is_fixed() && code != OptionCode::ExportName {
            return Next::Close("a client without fixed newstyle can only choose an export");
        }
        if self.tls == Tls::Required {
            match code {
                OptionCode::StartTls | OptionCode::Abort => {}
                OptionCode::ExportName => return Next::Close("TLS is required"),
                _ => return refuse(code, answer::TLS_REQUIRED, "this server wants TLS first", out),
            }
        }
        match code {
            OptionCode::ExportName => self.export_name(data, directory, out),
            OptionCode::Abort => {
                OptionReply::encode(code, answer::ACK, &[], out);
                Next::Close("the client ended the negotiation")
            }
            OptionCode::Info | OptionCode::Go => self.info(code, data, directory, out),
            OptionCode::ListMetaContext => list_contexts(data, directory, out),
            OptionCode::SetMetaContext => self.set_contexts(data, directory, out),
            OptionCode::List
            | OptionCode::StartTls
            | OptionCode::StructuredReply
            | OptionCode::ExtendedHeaders
                if !data.is_empty() =>
            {
                refuse(code, answer::INVALID, "this option carries no data", out)
            }
            OptionCode::List => {
                for Listed { name, description } in directory.list() {
                    OptionReply::encode(
                        code,
                        answer::SERVER,
                        &answers::listed(&name, cut(&description)),
                        out,
                    );
                }
                acknowledge(code, out)
            }
            OptionCode::StartTls => self.start_tls(out),
            OptionCode::StructuredReply => match self.style {
                Style::Simple => self.agree(code, Style::Structured, out),
                Style::Structured => refuse(code, answer::INVALID, "structured replies are agreed on", out),
                Style::Extended => {
                    let text = "extended headers are agreed on, which include structured replies";
                    refuse(code, answer::EXTENDED_HEADERS_REQUIRED, text, out)
                }
            },
            OptionCode::ExtendedHeaders if self.style == Style::Extended => {
                refuse(code, answer::INVALID, "extended headers are agreed on", out)
            }
            OptionCode::ExtendedHeaders => self.agree(code, Style::Extended, out),
            OptionCode::Unknown(number) => {
                refuse(code, answer::UNSUPPORTED, &format!("option {number} is not known here"), out)
            }
        }
    }

    fn agree<E>(&mut self, code: OptionCode, style: Style, out: &mut Vec<u8>) -> Next<E> {
        self.style = style;
        acknowledge(code, out)
    }

    fn start_tls<E>(&mut self, out: &mut Vec<u8>) -> Next<E> {
        let code = OptionCode::StartTls;
        match self.tls {
            Tls::Off => refuse(code, answer::POLICY, "this server has no certificate", out),
            Tls::On => refuse(code, answer::INVALID, "this is TLS already", out),
            Tls::Required => {
                OptionReply::encode(code, answer::ACK, &[], out);
                Next::StartTls
            }
        }
    }

    fn export_name<D: Directory>(
        &mut self,
        data: &[u8],
        directory: &D,
        out: &mut Vec<u8>,
    ) -> Next<D::Export> {
        let name = std::str::from_utf8(data).ok().filter(|name| name.len() <= STRING_BYTES_MAX);
        let Some(Ok(export)) = name.map(|name| directory.find(name)) else {
            return Next::Close("there is no export of the name that the client asked for");
        };
        let no_zeroes = self.flags.is_some_and(|flags| flags.no_zeroes);
        let agreed = self.agreed(export);
        let flags = flags_of(&agreed.export, agreed.style, !agreed.contexts.is_empty());
        answers::export_name(agreed.export.size_bytes(), flags, no_zeroes, out);
        Next::Transmit(agreed)
    }

    fn info<D: Directory>(
        &mut self,
        code: OptionCode,
        data: &[u8],
        directory: &D,
        out: &mut Vec<u8>,
    ) -> Next<D::Export> {
        let Some(query) = InfoQuery::decode(data) else {
            return refuse(code, answer::INVALID, "the option's lengths or its name make no sense", out);
        };
        let export = match directory.find(query.name) {
            Ok(export) => export,
            Err(refusal) => return refuse_export(code, &refusal, out),
        };
        let agreed = self.agreed(export);
        let export = &agreed.export;
        let flags = flags_of(export, agreed.style, !agreed.contexts.is_empty());
        let mut tell = |data: &[u8]| OptionReply::encode(code, answer::INFO, data, out);
        tell(&answers::export(export.size_bytes(), flags));
        if query.wants(info::NAME) {
            tell(&answers::text(info::NAME, export.name()));
        }
        if query.wants(info::DESCRIPTION) {
            tell(&answers::text(info::DESCRIPTION, cut(&export.description())));
        }
        if query.wants(info::BLOCK_SIZE) {
            tell(&answers::block_sizes(1, export.preferred_block_bytes(), PAYLOAD_BYTES_MAX));
        }
        OptionReply::encode(code, answer::ACK, &[], out);
        if code == OptionCode::Go { Next::Transmit(agreed) } else { Next::Option }
    }

    /// What was agreed on if this export is used now.
    fn agreed<E: Exported>(&self, export: E) -> Agreed<E> {
        let contexts = match &self.contexts {
            Some((name, contexts)) if name == export.name() => contexts.clone(),
            _ => Vec::new(),
        };
        Agreed { export, style: self.style, contexts }
    }

    fn set_contexts<D: Directory>(
        &mut self,
        data: &[u8],
        directory: &D,
        out: &mut Vec<u8>,
    ) -> Next<D::Export> {
        let code = OptionCode::SetMetaContext;
        self.contexts = None;
        let Some(query) = ContextQuery::decode(data) else {
            return refuse(code, answer::INVALID, "the option's lengths or names make no sense", out);
        };
        if self.style == Style::Simple {
            return refuse(code, answer::INVALID, "contexts need structured replies first", out);
        }
        let export = match directory.find(query.name) {
            Ok(export) => export,
            Err(refusal) => return refuse_export(code, &refusal, out),
        };
        let mut chosen: Vec<Context> = Vec::new();
        for name in query.queries() {
            if chosen.iter().any(|context| context.name == name) || !export.has_context(name) {
                continue;
            }
            if chosen.len() == CONTEXTS_MAX {
                let text = format!("a connection can choose {CONTEXTS_MAX} contexts at most");
                return refuse(code, answer::TOO_BIG, &text, out);
            }
            let id = u32::try_from(chosen.len()).unwrap_or(u32::MAX) + 1;
            chosen.push(Context { id, name: name.to_owned() });
        }
        for context in &chosen {
            let data = answers::context(context.id, &context.name);
            OptionReply::encode(code, answer::META_CONTEXT, &data, out);
        }
        self.contexts = Some((export.name().to_owned(), chosen));
        acknowledge(code, out)
    }
}

fn list_contexts<D: Directory>(data: &[u8], directory: &D, out: &mut Vec<u8>) -> Next<D::Export> {
    let code = OptionCode::ListMetaContext;
    let Some(query) = ContextQuery::decode(data) else {
        return refuse(code, answer::INVALID, "the option's lengths or names make no sense", out);
    };
    let export = match directory.find(query.name) {
        Ok(export) => export,
        Err(refusal) => return refuse_export(code, &refusal, out),
    };
    for name in export.contexts() {
        let matches = |query: &str| query == name || (query.ends_with(':') && name.starts_with(query));
        if query.count == 0 || query.queries().any(matches) {
            OptionReply::encode(code, answer::META_CONTEXT, &answers::context(0, &name), out);
        }
    }
    acknowledge(code, out)
}

/// The flags that a client is told.
fn flags_of(export: &impl Exported, style: Style, has_contexts: bool) -> u16 {
    use transmission::{
        BLOCK_STATUS_PAYLOAD, CAN_MULTI_CONN, HAS_FLAGS, READ_ONLY, SEND_CACHE, SEND_DF, SEND_FAST_ZERO,
        SEND_FLUSH, SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES,
    };
    let mut flags = HAS_FLAGS | SEND_FLUSH | SEND_FUA | SEND_CACHE;
    flags |= if export.is_read_only() { READ_ONLY } else { SEND_TRIM | SEND_WRITE_ZEROES | SEND_FAST_ZERO };
    if export.can_multi_conn() {
        flags |= CAN_MULTI_CONN;
    }
    if style != Style::Simple {
        flags |= SEND_DF;
    }
    if style == Style::Extended && has_contexts {
        flags |= BLOCK_STATUS_PAYLOAD;
    }
    flags
}

/// What comes after one option.
enum Next<E> {
    Option,
    StartTls,
    Transmit(Agreed<E>),
    Close(&'static str),
}

impl<E> Next<E> {
    fn after(self, used: usize) -> Step<E> {
        match self {
            Self::Option => Step::Used(used),
            Self::StartTls => Step::StartTls(used),
            Self::Transmit(agreed) => Step::Transmit(used, agreed),
            Self::Close(why) => Step::Close(why),
        }
    }
}

fn acknowledge<E>(code: OptionCode, out: &mut Vec<u8>) -> Next<E> {
    OptionReply::encode(code, answer::ACK, &[], out);
    Next::Option
}

fn refuse<E>(code: OptionCode, kind: u32, text: &str, out: &mut Vec<u8>) -> Next<E> {
    OptionReply::encode(code, kind, cut(text).as_bytes(), out);
    Next::Option
}

fn refuse_export<E>(code: OptionCode, refusal: &Refusal, out: &mut Vec<u8>) -> Next<E> {
    match refusal {
        Refusal::Unknown(sentence) => refuse(code, answer::UNKNOWN, sentence, out),
        Refusal::Shutdown => refuse(code, answer::SHUTDOWN, "the server is going down", out),
    }
}
