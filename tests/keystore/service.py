"""A Secret Service for tests: one collection in memory, unlocked or (with the argument `locked`) locked. Never on a real session bus:
DBUS_SESSION_BUS_ADDRESS must name one made for the test."""
import sys
import dbus
import dbus.service
from dbus.mainloop.glib import DBusGMainLoop
from gi.repository import GLib

LOCKED = "locked" in sys.argv
SERVICE, COLLECTION, ITEM = ("org.freedesktop.Secret." + n for n in ("Service", "Collection", "Item"))
ROOT, DEFAULT = "/org/freedesktop/secrets", "/org/freedesktop/secrets/collection/login"
PROPERTIES = "org.freedesktop.DBus.Properties"


class Item(dbus.service.Object):
    def __init__(self, bus, path, attributes, secret):
        super().__init__(bus, path)
        self.path, self.attributes, self.secret = path, attributes, secret

    @dbus.service.method(ITEM, in_signature="o", out_signature="(oayays)")
    def GetSecret(self, session):
        return dbus.Struct((session, dbus.ByteArray(b""), self.secret, "application/octet-stream"), signature="oayays")

    @dbus.service.method(ITEM, out_signature="o")
    def Delete(self):
        items.remove(self)
        self.remove_from_connection()
        return dbus.ObjectPath("/")

    @dbus.service.method(PROPERTIES, in_signature="ss", out_signature="v")
    def Get(self, interface, name):
        return {"Locked": dbus.Boolean(LOCKED), "Label": dbus.String("test")}[name]


class Collection(dbus.service.Object):
    @dbus.service.method(COLLECTION, in_signature="a{sv}(oayays)b", out_signature="oo")
    def CreateItem(self, properties, secret, replace):
        attributes = {str(k): str(v) for k, v in properties["org.freedesktop.Secret.Item.Attributes"].items()}
        path = "%s/%d" % (DEFAULT, len(items))
        items.append(Item(bus, path, attributes, dbus.ByteArray(bytes(bytearray(secret[2])))))
        return dbus.ObjectPath(path), dbus.ObjectPath("/")

    @dbus.service.method(COLLECTION, in_signature="a{ss}", out_signature="ao")
    def SearchItems(self, attributes):
        wanted = {str(k): str(v) for k, v in attributes.items()}
        return dbus.Array([dbus.ObjectPath(i.path) for i in items if i.attributes == wanted], signature="o")

    @dbus.service.method(PROPERTIES, in_signature="ss", out_signature="v")
    def Get(self, interface, name):
        return {"Locked": dbus.Boolean(LOCKED), "Label": dbus.String("login")}[name]


class Service(dbus.service.Object):
    @dbus.service.method(SERVICE, in_signature="sv", out_signature="vo")
    def OpenSession(self, algorithm, value):
        return dbus.String("", variant_level=1), dbus.ObjectPath(ROOT + "/session/1")

    @dbus.service.method(SERVICE, in_signature="s", out_signature="o")
    def ReadAlias(self, name):
        return dbus.ObjectPath(DEFAULT if name == "default" else "/")

    @dbus.service.method(SERVICE, in_signature="ao", out_signature="aoo")
    def Unlock(self, objects):
        print("a prompt was asked for", flush=True)
        return dbus.Array([], signature="o"), dbus.ObjectPath("/")


DBusGMainLoop(set_as_default=True)
bus = dbus.SessionBus()
items = []
name = dbus.service.BusName("org.freedesktop.secrets", bus)
service, collection = Service(bus, ROOT), Collection(bus, DEFAULT)
print("ready", flush=True)
GLib.MainLoop().run()
