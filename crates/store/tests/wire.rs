//! What of an observation cannot be compressed: its random id (16 bytes) and the checksum of its change (4). The actor
//! (16), names of fields and everything that repeats is paid once a batch.

use cairn_model::{DocId, Edit, default_configuration};
use cairn_store::{Entropy, ImportPlan, ImportRow, NewProject, OsEntropy, RowAct, Store};
use cairn_trust::DeviceKeys;
use redb::{Database, backends::InMemoryBackend};

#[test]
fn an_observation_that_says_nothing_new_costs_twenty_bytes_and_a_little() {
    let db = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
    let configuration = default_configuration();
    let new = NewProject { name: "wire", device_name: "a", configuration: &configuration, now_ms: 1 };
    let (mut store, _) = Store::new_project(db, DeviceKeys::from_seed([1; 32]), Box::new(OsEntropy), &new).unwrap();
    store.cut(1).unwrap();
    let first = store.frontier().unwrap()[0].seq + 1;
    let count = 2560;
    let mut rows = (0..count).map(|n| {
        let mut edit = Edit::new();
        edit.category("animal", None).unwrap().field("species", "tapir", None, &[]).unwrap();
        Ok(ImportRow {
            line: n,
            act: Ok(RowAct::Put(DocId((&mut OsEntropy as &mut dyn Entropy).bytes()), edit.into_wanted().unwrap(), Vec::new())),
        })
    });
    store.import(&ImportPlan::default(), &mut rows, 2).unwrap();
    let bytes: usize = store.chunks_from(0, first, usize::MAX).unwrap().iter().map(Vec::len).sum();
    let each = bytes as f64 / count as f64;
    assert!((20.0..30.0).contains(&each), "{each} bytes an observation");
}
