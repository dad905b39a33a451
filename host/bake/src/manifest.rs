//! `manifest.json` beside baked modules, as it is filled in.

use lockgate_core::{BakedBundle, BakedFile, BakedModule, BakedPackage};
use lockgate_package::{Digest, Engine, Package};
use lockgate_policy::{Bundle, ListObject};

use crate::Image;

pub(crate) fn module(name: &str, flavour: Option<Engine>, image: &Image) -> BakedModule {
    BakedModule {
        file: format!("{name}.wasm"),
        component: image.component.as_ref().map(|_| format!("{name}.component.wasm")),
        flavour,
        identity: image.identity,
        image: Digest::of(&image.module),
        component_image: image.component.as_deref().map(Digest::of),
        abi: format!("{}.{}", image.abi >> 16, image.abi & 0xffff),
        bytes: image.module.len() as u64,
        gzip_bytes: gzip_len(&image.module),
        memory_bytes: image.memory,
        memory_limit_bytes: image.memory_limit,
    }
}

pub(crate) fn file(name: &str, bytes: &[u8]) -> BakedFile {
    BakedFile { file: name.to_owned(), image: Digest::of(bytes) }
}

pub(crate) fn bundle(bundle: &Bundle) -> BakedBundle {
    let lists = bundle.list_objects().iter().map(ListObject::digest).collect();
    BakedBundle { version: bundle.version(), digest: bundle.digest(), lists }
}

pub(crate) fn package(handle: u32, package: &Package) -> BakedPackage {
    let manifest = package.manifest();
    BakedPackage {
        handle,
        digest: package.digest(),
        model: manifest.model.clone(),
        version: manifest.version.clone(),
        engine: manifest.engine,
    }
}

fn gzip_len(bytes: &[u8]) -> u64 {
    let mut reader = flate2::read::GzEncoder::new(bytes, flate2::Compression::best());
    // Reading from memory into nowhere cannot fail.
    std::io::copy(&mut reader, &mut std::io::sink()).unwrap_or_default()
}
