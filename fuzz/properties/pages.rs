//! Pages: bytes that share whatever was not changed with the image that they come from.
//!
//! An image is copied for every input, and most inputs touch a few pages of it: copying all of it would be most of the work.

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

type Page = Box<[u8; PAGE]>;

/// An image, changed here and there.
#[derive(Clone)]
pub(crate) struct Pages {
    /// What is not in `changed`; zeros behind its end.
    base: &'static [u8],
    length: usize,
    changed: Vec<Option<Page>>,
}

impl Pages {
    pub(crate) fn new(base: &'static [u8]) -> Self {
        Self { base, length: base.len(), changed: vec![None; base.len().div_ceil(PAGE)] }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Fills `bytes` from `at` on; `None`, with nothing done, if the end comes before.
    pub(crate) fn read(&self, at: usize, bytes: &mut [u8]) -> Option<()> {
        self.is_inside(at, bytes.len())?;
        for (page, within, part) in parts(at, bytes.len()) {
            let (start, into) = (page * PAGE + within, &mut bytes[part]);
            if let Some(Some(changed)) = self.changed.get(page) {
                into.copy_from_slice(&changed[within..within + into.len()]);
            } else {
                let held = self.base.get(start..).unwrap_or_default();
                let count = held.len().min(into.len());
                into[..count].copy_from_slice(&held[..count]);
                into[count..].fill(0);
            }
        }
        Some(())
    }

    /// Writes `bytes` at `at`; `None`, with nothing done, if the end comes before.
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) -> Option<()> {
        self.is_inside(at, bytes.len())?;
        for (page, within, part) in parts(at, bytes.len()) {
            let from = &bytes[part];
            self.page(page)[within..within + from.len()].copy_from_slice(from);
        }
        Some(())
    }

    /// A copy of `count` bytes; `None` if the end comes before.
    pub(crate) fn get(&self, at: usize, count: usize) -> Option<Vec<u8>> {
        self.is_inside(at, count)?;
        let mut bytes = vec![0; count];
        self.read(at, &mut bytes)?;
        Some(bytes)
    }

    pub(crate) fn grow(&mut self, length: usize) {
        self.length = self.length.max(length);
        self.changed.resize(self.length.div_ceil(PAGE), None);
    }

    pub(crate) fn truncate(&mut self, length: usize) {
        if length < self.length {
            let rest = self.length.min((length / PAGE + 1) * PAGE) - length;
            self.write(length, &vec![0; rest]);
            self.length = length;
            self.changed.truncate(length.div_ceil(PAGE));
            self.base = &self.base[..length.min(self.base.len())];
        }
    }

    fn is_inside(&self, at: usize, count: usize) -> Option<()> {
        at.checked_add(count).filter(|end| *end <= self.length).map(drop)
    }

    fn page(&mut self, page: usize) -> &mut Page {
        if self.changed[page].is_none() {
            let mut bytes = Box::new([0; PAGE]);
            let held = self.base.get(page * PAGE..).unwrap_or_default();
            let count = held.len().min(PAGE);
            bytes[..count].copy_from_slice(&held[..count]);
            self.changed[page] = Some(bytes);
        }
        self.changed[page].as_mut().unwrap()
    }
}

/// The pages that a transfer touches: each with where in it the transfer begins, and which part of the transfer it is.
fn parts(at: usize, count: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let (page, within) = ((at + done) / PAGE, (at + done) % PAGE);
        let part = done..count.min(done + PAGE - within);
        done = part.end;
        (!part.is_empty()).then_some((page, within, part))
    })
}
