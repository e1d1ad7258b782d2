//! As much of etcd's database file as tells which etcd wrote it, and whether a member ever used it.
//!
//! The file is bbolt's (go.etcd.io/bbolt, `internal/common/{meta,page,bucket}.go`): pages in the machine's byte order,
//! two of them metas, of which the valid one with the higher transaction counts. A page is a header {u64 id, u16 flags,
//! u16 count, u32 overflow} and its elements; a bucket is {u64 root page, u64 sequence}, with its one page behind that
//! where the root is 0. Nothing here may run while etcd does.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 16;
/// A meta up to its checksum.
const META_BYTES: usize = 56;
/// bbolt takes the page size of the machine that made the file.
const PAGE_SIZES: [u64; 7] = [1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16];
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
/// No bucket that is read here has more keys, a deeper tree, or a longer page.
const KEYS_MAX: usize = 10_000;
const DEPTH_MAX: u32 = 8;
const PAGE_BYTES_MAX: u64 = 16 << 20;

/// What a database says of its member and of the etcd that wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Database {
    /// A member has run on it. Without, it is what an etcd leaves that ended before it had a WAL: etcd creates the
    /// `meta` bucket first (3.4 none at all), and commits all other buckets before its member speaks to anybody.
    pub used: bool,
    /// `cluster/clusterVersion`: the version that the cluster had agreed on.
    pub cluster_version: Option<String>,
    /// `meta/storageVersion`, from 3.6 on: what an etcd must understand to read it.
    pub storage_version: Option<String>,
}

/// Reads the database; none where it is not one that this program understands.
///
/// # Errors
/// Where the file cannot be read.
pub fn read(path: &Path) -> io::Result<Option<Database>> {
    let Some(file) = Bolt::open(path)? else { return Ok(None) };
    let Some(buckets) = file.items(file.root, DEPTH_MAX)? else { return Ok(None) };
    let mut database = Database::default();
    for (name, bucket) in &buckets {
        let (is_meta, is_cluster) = (name == b"meta", name == b"cluster");
        database.used |= !is_meta;
        if !is_meta && !is_cluster {
            continue;
        }
        let Some(keys) = file.bucket(bucket)? else { return Ok(None) };
        let text = |key: &[u8]| {
            let value = keys.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
            value.and_then(|value| String::from_utf8(value).ok())
        };
        if is_meta {
            database.used |= !keys.is_empty();
            database.storage_version = text(b"storageVersion");
        } else {
            database.cluster_version = text(b"clusterVersion");
        }
    }
    Ok(Some(database))
}

type Items = Vec<(Vec<u8>, Vec<u8>)>;

struct Bolt {
    file: File,
    page_size: u64,
    root: u64,
}

impl Bolt {
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let mut newest: Option<(u64, u64, u64)> = None;
        for place in [0].into_iter().chain(PAGE_SIZES) {
            let mut meta = [0; META_BYTES + 8];
            if !read_all(&file, &mut meta, place + HEADER_BYTES as u64)? {
                continue;
            }
            let Some((page_size, root, transaction)) = valid_meta(&meta) else { continue };
            let is_here = place == 0 || place == page_size;
            if is_here && newest.is_none_or(|(_, _, known)| transaction > known) {
                newest = Some((page_size, root, transaction));
            }
        }
        Ok(newest.map(|(page_size, root, _)| Self { file, page_size, root }))
    }

    /// All keys and values of the tree below a page.
    fn items(&self, page: u64, depth: u32) -> io::Result<Option<Items>> {
        let Some(bytes) = self.page(page)? else { return Ok(None) };
        let Some(elements) = elements(&bytes) else { return Ok(None) };
        let children = match elements {
            Elements::Leaf(items) => return Ok(Some(items)),
            Elements::Branch(children) => children,
        };
        let mut all = Vec::new();
        for child in children {
            let items = if depth == 0 { None } else { self.items(child, depth - 1)? };
            let Some(items) = items.filter(|items| items.len() + all.len() <= KEYS_MAX) else { return Ok(None) };
            all.extend(items);
        }
        Ok(Some(all))
    }

    fn bucket(&self, value: &[u8]) -> io::Result<Option<Items>> {
        match (number::<8>(value, 0), value.get(HEADER_BYTES..)) {
            (Some(0), Some(inline)) => Ok(match elements(inline) {
                Some(Elements::Leaf(items)) => Some(items),
                _ => None,
            }),
            (Some(root), Some(_)) => self.items(root, DEPTH_MAX),
            _ => Ok(None),
        }
    }

    /// A page with what overflows from it.
    fn page(&self, page: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(place) = page.checked_mul(self.page_size) else { return Ok(None) };
        let mut header = [0; HEADER_BYTES];
        if !read_all(&self.file, &mut header, place)? || number::<8>(&header, 0) != Some(page) {
            return Ok(None);
        }
        let pages = number::<4>(&header, 12).unwrap_or_default() + 1;
        let Some(length) = pages.checked_mul(self.page_size).filter(|length| *length <= PAGE_BYTES_MAX) else {
            return Ok(None);
        };
        let mut bytes = vec![0; length as usize];
        Ok(read_all(&self.file, &mut bytes, place)?.then_some(bytes))
    }
}

enum Elements {
    Branch(Vec<u64>),
    Leaf(Items),
}

/// The elements of a page: {u32 position, u32 key size, u64 page} in a branch, {u32 flags, u32 position, u32 key size,
/// u32 value size} in a leaf; a position counts from the element.
fn elements(page: &[u8]) -> Option<Elements> {
    let kind = number::<2>(page, 8)? as u16;
    let count = number::<2>(page, 10)? as usize;
    let places = (0..count).map(|n| HEADER_BYTES + n * 16);
    if kind & BRANCH != 0 {
        return places.map(|place| number::<8>(page, place + 8)).collect::<Option<_>>().map(Elements::Branch);
    }
    let item = |place: usize| {
        let [position, key, value] = [4, 8, 12].map(|field| number::<4>(page, place + field));
        let data = page.get(place.checked_add(position? as usize)?..)?;
        let (key, rest) = data.split_at_checked(key? as usize)?;
        Some((key.to_vec(), rest.get(..value? as usize)?.to_vec()))
    };
    (kind & LEAF != 0).then_some(())?;
    places.map(item).collect::<Option<_>>().map(Elements::Leaf)
}

/// Page size, root page and transaction of a meta.
fn valid_meta(meta: &[u8]) -> Option<(u64, u64, u64)> {
    let is_meta = number::<4>(meta, 0)? == u64::from(MAGIC) && number::<4>(meta, 4)? == u64::from(VERSION);
    let page_size = number::<4>(meta, 8)?;
    let is_whole = number::<8>(meta, META_BYTES)? == fnv1a(&meta[..META_BYTES]);
    (is_meta && is_whole && PAGE_SIZES.contains(&page_size)).then_some(())?;
    Some((page_size, number::<8>(meta, 16)?, number::<8>(meta, 48)?))
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A number of this many bytes.
fn number<const BYTES: usize>(bytes: &[u8], place: usize) -> Option<u64> {
    let field = bytes.get(place..)?.get(..BYTES)?;
    let mut all = [0; 8];
    if cfg!(target_endian = "big") {
        all[8 - BYTES..].copy_from_slice(field)
    } else {
        all[..BYTES].copy_from_slice(field)
    }
    Some(u64::from_ne_bytes(all))
}

/// Reads all of it; false where the file ends before.
fn read_all(file: &File, bytes: &mut [u8], place: u64) -> io::Result<bool> {
    match file.read_exact_at(bytes, place) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
pub(crate) mod tests;
