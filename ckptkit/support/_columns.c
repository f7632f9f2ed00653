/* Runs of like entries in the headers of files with very many tensors: read column by column, and put together again.
 *
 * Optional, as `_kernels.c` is: whatever is here, Python does as well, and names what is wrong. A reader gives None, or stops, where an
 * entry is not of the usual form; it never decides that a file is damaged. Nothing is believed: every step is held against the end of
 * what was given.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

typedef const uint8_t *Bytes;

static inline uint32_t u16of(Bytes p) { return (uint32_t)p[0] | (uint32_t)p[1] << 8; }
static inline uint32_t u32of(Bytes p) { return u16of(p) | u16of(p + 2) << 16; }

/* append a new reference, which may be NULL */
static int put(PyObject *list, PyObject *item)
{
    int bad = item == NULL || PyList_Append(list, item) < 0;
    Py_XDECREF(item);
    return bad ? -1 : 0;
}

static int put_number(PyObject *list, uint64_t n) { return put(list, PyLong_FromUnsignedLongLong(n)); }

/* the same for numbers of which few are different: an object that stands for one may serve for the next of it. `met` has as many places as
 * the last byte has values, all -1 at first: where in the list a number of that byte stands */
static int put_again(PyObject *list, uint64_t n, Py_ssize_t *met)
{
    Py_ssize_t at = met[n & 255];
    if (at >= 0) {
        PyObject *known = PyList_GET_ITEM(list, at);
        if (PyLong_AsUnsignedLongLong(known) == n) return PyList_Append(list, known);
    }
    met[n & 255] = PyList_GET_SIZE(list);
    return put_number(list, n);
}

/* ---- pickles ------------------------------------------------------------------------------------------------------------------ */

/* BININT1, BININT2 or a BININT that is not negative; NULL for anything else */
static Bytes integer(Bytes p, Bytes end, uint32_t *value)
{
    if (end - p < 6) return NULL;
    if (p[0] == 'K') { *value = p[1]; return p + 2; }
    if (p[0] == 'M') { *value = u16of(p + 1); return p + 3; }
    if (p[0] == 'J' && p[4] < 0x80) { *value = u32of(p + 1); return p + 5; }
    return NULL;
}

/* a tuple of integers; `known` keeps those that were met by their bytes. *out is borrowed from it, NULL where it is none */
static Bytes dims(Bytes p, Bytes end, PyObject *known, PyObject **out)
{
    Bytes start = p;
    uint32_t values[64];
    int count = 0, marked = end - p > 1 && *p == '(';
    *out = NULL;
    for (p += marked; count < (marked ? 64 : 3); count++) {
        Bytes next = integer(p, end, values + count);
        if (next == NULL) break;
        p = next;
    }
    if (end - p < 1 || (marked ? count < 4 || *p != 't' : count < 1 || *p != 0x84 + count)) return NULL;
    p++;
    PyObject *raw = PyBytes_FromStringAndSize((const char *)start, p - start);
    if (raw == NULL) return NULL;
    PyObject *held = PyDict_GetItemWithError(known, raw);
    if (held == NULL && !PyErr_Occurred()) {
        PyObject *made = PyTuple_New(count);
        for (int i = 0; made != NULL && i < count; i++) {
            PyObject *n = PyLong_FromUnsignedLong(values[i]);
            if (n == NULL) Py_CLEAR(made); else PyTuple_SET_ITEM(made, i, n);
        }
        if (made != NULL && PyDict_SetItem(known, raw, made) == 0) held = made;
        Py_XDECREF(made);
    }
    Py_DECREF(raw);
    *out = held == Py_None ? NULL : held;
    return *out == NULL ? NULL : p;
}

#define WANT(code) do { if (*p++ != (code)) goto stop; } while (0)
#define STORE(k) do { WANT('r'); places[k] = u32of(p); p += 4; } while (0)

/* tensors(data, at, most, dims): the items of a dict from `at` on that are each a name and a tensor rebuilt as torch.save does it.
 * (names, keys, gets, kinds, types, devices, hooks, elements, offsets, sizes, strides, the memo numbers of the names, of the keys, of the
 * tensors, the first and the last of all, which ascend, end) */
static PyObject *py_tensors(PyObject *self, PyObject *args)
{
    Py_buffer data;
    Py_ssize_t at, most;
    PyObject *known, *out = NULL, *lists[9] = {NULL}, *columns[5] = {NULL};
    if (!PyArg_ParseTuple(args, "y*nnO!", &data, &at, &most, &PyDict_Type, &known)) return NULL;
    Bytes base = data.buf, end = base + data.len, p = base + (at < 0 || at > data.len ? data.len : at), done = p;
    if (most < 0 || most > 1 << 16) most = 1 << 16;
    uint8_t *short_ = PyMem_Malloc(5 * (size_t)most + 1);
    Py_ssize_t met[256];
    for (int i = 0; i < 256; i++) met[i] = -1;
    if (short_ == NULL) { PyErr_NoMemory(); goto end; }
    for (int i = 0; i < 9; i++) if ((lists[i] = PyList_New(0)) == NULL) goto end;
    uint32_t last = 0, lowest = 0;
    Py_ssize_t n = 0;
    for (; n < most; n++) {
        uint32_t places[8], elements, first;
        PyObject *size, *stride;
        p = done;
        if (end - p < 6) break;
        WANT('X');
        Py_ssize_t name = *p++, key;
        if (!name || p[0] || p[1] || p[2] || end - p < name + 96) break; /* what follows a name takes more, but for its integers */
        Bytes text = p += 3;
        for (Py_ssize_t i = 0; i < name; i++) if (text[i] < ' ' || text[i] > '~') goto stop;
        p += name;
        STORE(0);
        WANT('h'); short_[n] = *p++;
        WANT('('); WANT('(');
        WANT('h'); short_[most + n] = *p++;
        WANT('h'); short_[2 * most + n] = *p++;
        WANT('X');
        key = *p++;
        if (!key || key > 40 || p[0] || p[1] || p[2] || end - p < key + 64) break;
        Bytes digits = p += 3;
        for (Py_ssize_t i = 0; i < key; i++) if (digits[i] < '0' || digits[i] > '9') goto stop;
        p += key;
        STORE(1);
        WANT('h'); short_[3 * most + n] = *p++;
        if ((p = integer(p, end, &elements)) == NULL || end - p < 16) break;
        if (*p == 'N') p++;
        WANT('t');
        STORE(2);
        WANT('Q');
        if ((p = integer(p, end, &first)) == NULL) break;
        if ((p = dims(p, end, known, &size)) == NULL || end - p < 6) break;
        STORE(3);
        if ((p = dims(p, end, known, &stride)) == NULL || end - p < 27) break;
        STORE(4);
        if (*p != 0x88 && *p != 0x89) break;
        p++;
        WANT('h'); short_[4 * most + n] = *p++;
        WANT(')'); WANT('R'); STORE(5);
        WANT('t'); STORE(6);
        WANT('R'); STORE(7);
        uint32_t before = last;
        int rising = 1;
        for (int i = 0; i < 8; i++) { rising &= places[i] > before || (!i && !n); before = places[i]; }
        if (!rising) break;
        if (!n) lowest = places[0];
        last = before;
        if (put(lists[0], PyUnicode_DecodeASCII((const char *)text, name, NULL)) < 0 ||
            put(lists[1], PyUnicode_DecodeASCII((const char *)digits, key, NULL)) < 0 || put_again(lists[2], elements, met) < 0 ||
            put_number(lists[3], first) < 0 || PyList_Append(lists[4], size) < 0 || PyList_Append(lists[5], stride) < 0)
            goto end;
        if (put_number(lists[6], places[0]) < 0 || put_number(lists[7], places[1]) < 0 || put_number(lists[8], places[7]) < 0) goto end;
        done = p;
    }
stop:
    if (PyErr_Occurred()) goto end;
    for (int i = 0; i < 5; i++)
        if ((columns[i] = PyBytes_FromStringAndSize((const char *)short_ + i * most, n)) == NULL) goto end;
    out = Py_BuildValue("(OOOOOOOOOOOOOOIIn)", lists[0], lists[1], columns[0], columns[1], columns[2], columns[3], columns[4], lists[2],
                        lists[3], lists[4], lists[5], lists[6], lists[7], lists[8], lowest, last, (Py_ssize_t)(done - base));
end:
    PyMem_Free(short_);
    for (int i = 0; i < 9; i++) Py_XDECREF(lists[i]);
    for (int i = 0; i < 5; i++) Py_XDECREF(columns[i]);
    PyBuffer_Release(&data);
    return out;
}

/* ---- zip ---------------------------------------------------------------------------------------------------------------------- */

/* central(raw, count): [(name, flags, method, crc, size, local header's offset, packed size)] of entries that are stored and small; None
 * where one is anything else */
static PyObject *py_central(PyObject *self, PyObject *args)
{
    Py_buffer data;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "y*n", &data, &count)) return NULL;
    Bytes p = data.buf, end = p + data.len;
    PyObject *out = PyList_New(0);
    for (Py_ssize_t i = 0; out != NULL && i < count; i++) {
        if (end - p < 46 || memcmp(p, "PK\1\2", 4)) goto other;
        uint32_t flags = u16of(p + 8), crc = u32of(p + 16), packed = u32of(p + 20), size = u32of(p + 24), header = u32of(p + 42);
        uint32_t name = u16of(p + 28), extra = u16of(p + 30), comment = u16of(p + 32), disk = u16of(p + 34);
        if (flags & ~0x080Eu || u16of(p + 10) || size == UINT32_MAX || packed != size || header == UINT32_MAX) goto other;
        if ((disk && disk != 0xFFFF) || end - p < (Py_ssize_t)(46 + name + extra + comment)) goto other;
        if (put(out, Py_BuildValue("(y#IIIIII)", p + 46, (Py_ssize_t)name, flags, 0, crc, size, header, packed)) < 0) Py_CLEAR(out);
        p += 46 + name + extra + comment;
    }
    if (out != NULL && p != end) {
other:
        Py_CLEAR(out);
        out = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&data);
    return out;
}

static uint32_t field(PyObject *row, int i) { return (uint32_t)PyLong_AsUnsignedLong(PyTuple_GET_ITEM(row, i)); }

/* locals(listed, first, window, low, at, starts): hold entries of `central`, in the file's order, against their local headers and what
 * stands before those, as far as `window` (the file from `low` on) holds them; appends where their bytes begin to `starts`.
 * (how many were held, where the next header has to be); None where one is not as torch.save writes it */
static PyObject *py_locals(PyObject *self, PyObject *args)
{
    Py_buffer data;
    PyObject *listed, *starts, *out = NULL;
    Py_ssize_t first;
    long long low, at;
    if (!PyArg_ParseTuple(args, "O!ny*LLO!", &PyList_Type, &listed, &first, &data, &low, &at, &PyList_Type, &starts)) return NULL;
    Bytes base = data.buf;
    Py_ssize_t i = first, count = PyList_GET_SIZE(listed);
    for (; i < count; i++) {
        PyObject *row = PyList_GET_ITEM(listed, i);
        if (!PyTuple_CheckExact(row) || PyTuple_GET_SIZE(row) != 7 || !PyBytes_CheckExact(PyTuple_GET_ITEM(row, 0))) goto other;
        PyObject *name = PyTuple_GET_ITEM(row, 0);
        Py_ssize_t n = PyBytes_GET_SIZE(name);
        uint32_t flags = field(row, 1), size = field(row, 4), header = field(row, 5), packed = field(row, 6);
        if (PyErr_Occurred()) goto end;
        if (header != at || !(flags & 8)) goto other;
        long long from = (long long)header - low;
        if (from + 30 + n > data.len) break;
        if (from < (i ? 16 : 0)) goto other;
        Bytes p = base + from;
        if (i) { /* the descriptor of the entry before */
            PyObject *before = PyList_GET_ITEM(listed, i - 1);
            if (memcmp(p - 16, "PK\7\10", 4) || u32of(p - 12) != field(before, 3) || u32of(p - 8) != field(before, 6) ||
                u32of(p - 4) != field(before, 4))
                goto other;
        }
        if (memcmp(p, "PK\3\4", 4) || u16of(p + 6) != flags || u16of(p + 8) || u32of(p + 14) || u32of(p + 18) || u32of(p + 22) ||
            u16of(p + 26) != (uint32_t)n || memcmp(p + 30, PyBytes_AS_STRING(name), (size_t)n) || size != packed)
            goto other;
        long long start = (long long)header + 30 + n + u16of(p + 28);
        if (put(starts, PyLong_FromLongLong(start)) < 0) goto end;
        at = start + packed + 16;
    }
    out = Py_BuildValue("(nL)", i - first, at);
    goto end;
other:
    out = Py_NewRef(Py_None);
end:
    PyBuffer_Release(&data);
    return out;
}

/* ---- TensorFlow's index ------------------------------------------------------------------------------------------------------- */

static Bytes varint(Bytes p, Bytes end, uint64_t *value)
{
    uint64_t n = 0;
    for (int shift = 0; shift < 63 && p < end; shift += 7) {
        n |= (uint64_t)(*p & 127) << shift;
        if (*p++ < 128) { *value = n; return p; }
    }
    return NULL;
}

/* What a BundleEntryProto says that begins as one in `heads` (bytes -> (number, shape, spec, bytes, how the end is encoded)) and has the
 * usual end: (kind, shard, offset, size, crc, ()); None for any other */
static PyObject *bundle_entry(Bytes p, Bytes end, PyObject *heads)
{
    if (end - p < 5 || p[0] != 0x08 || p[2] != 0x12 || end - p < 4 + p[3]) return Py_NewRef(Py_None);
    PyObject *head = PyBytes_FromStringAndSize((const char *)p, 4 + p[3]);
    if (head == NULL) return NULL;
    PyObject *kind = PyDict_GetItemWithError(heads, head);
    Py_DECREF(head);
    if (kind == NULL || PyTuple_GET_SIZE(kind) != 5) return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    PyObject *nbytes = PyTuple_GET_ITEM(kind, 3), *usual = PyTuple_GET_ITEM(kind, 4);
    p += 4 + p[3];
    Py_ssize_t n = PyBytes_GET_SIZE(usual);
    Bytes cut = end - 4 - n;
    if (PyObject_Not(nbytes) || end - p < 4 + n || memcmp(cut, PyBytes_AS_STRING(usual), (size_t)n) || cut[-1] > 127)
        return Py_NewRef(Py_None);
    uint64_t offset = 0, shard = 0;
    if (cut - p > 1 && p[0] == 0x18 && p[1] < 128) { shard = p[1]; p += 2; }
    if (p < cut && *p == 0x20 && (p = varint(p + 1, cut, &offset)) == NULL) return Py_NewRef(Py_None);
    if (p != cut) return Py_NewRef(Py_None);
    PyObject *none = PyTuple_New(0);
    return none == NULL ? NULL : Py_BuildValue("(OKKOIN)", kind, shard, offset, nbytes, u32of(end - 4), none);
}

/* entry(data, start, end, heads): the same of one value */
static PyObject *py_entry(PyObject *self, PyObject *args)
{
    Py_buffer data;
    Py_ssize_t start, end;
    PyObject *heads, *out = NULL;
    if (!PyArg_ParseTuple(args, "y*nnO!", &data, &start, &end, &PyDict_Type, &heads)) return NULL;
    if (start < 0 || end > data.len || start > end) PyErr_SetString(PyExc_ValueError, "the value lies outside");
    else out = bundle_entry((Bytes)data.buf + start, (Bytes)data.buf + end, heads);
    PyBuffer_Release(&data);
    return out;
}

/* says(data, found, first, heads): the same of the values of entries (key, start, end) from `first` on, up to one that says other things */
static PyObject *py_says(PyObject *self, PyObject *args)
{
    Py_buffer data;
    Py_ssize_t first;
    PyObject *found, *heads, *out;
    if (!PyArg_ParseTuple(args, "y*O!nO!", &data, &PyList_Type, &found, &first, &PyDict_Type, &heads)) return NULL;
    out = PyList_New(0);
    for (Py_ssize_t i = first < 0 ? 0 : first; out != NULL && i < PyList_GET_SIZE(found); i++) {
        PyObject *row = PyList_GET_ITEM(found, i), *said = NULL;
        Py_ssize_t start = -1, end = -1;
        if (PyTuple_Check(row) && PyTuple_GET_SIZE(row) == 3) {
            start = PyLong_AsSsize_t(PyTuple_GET_ITEM(row, 1));
            end = PyLong_AsSsize_t(PyTuple_GET_ITEM(row, 2));
        }
        if (start < 0 || end > data.len || start > end) {
            if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "the value lies outside");
        } else said = bundle_entry((Bytes)data.buf + start, (Bytes)data.buf + end, heads);
        if (said == Py_None) { Py_DECREF(said); break; }
        if (put(out, said) < 0) Py_CLEAR(out);
    }
    PyBuffer_Release(&data);
    return out;
}

/* block(data, start, limit, last, most, heads): the entries of a block of a table without its restart points, which end at `limit`; keys
 * ascend, above `last` (or None), and are of `most` bytes at most. ([key], [(start, end) of its value], [what it says or None], [places
 * of whole keys], bytes of keys that are kept); None where one is anything else */
static PyObject *py_block(PyObject *self, PyObject *args)
{
    Py_buffer data;
    Py_ssize_t start, limit, most, size = 0, kept = 0;
    PyObject *last, *heads, *out = NULL, *lists[4] = {NULL};
    if (!PyArg_ParseTuple(args, "y*nnOnO!", &data, &start, &limit, &last, &most, &PyDict_Type, &heads)) return NULL;
    uint8_t *key = NULL;
    if (start < 0 || limit > data.len || start > limit || most < 0 || most > 1 << 24) goto other;
    if (last != Py_None && !PyBytes_Check(last)) goto other;
    if ((key = PyMem_Malloc((size_t)most + 1)) == NULL) { PyErr_NoMemory(); goto end; }
    for (int i = 0; i < 4; i++) if ((lists[i] = PyList_New(0)) == NULL) goto end;
    Bytes base = data.buf, p = base + start, end = base + limit;
    PyObject *above = Py_NewRef(last); /* the key before */
    while (p < end) {
        uint64_t shared, own, length;
        Bytes at = p;
        if ((p = varint(p, end, &shared)) == NULL || (p = varint(p, end, &own)) == NULL || (p = varint(p, end, &length)) == NULL) break;
        if (shared > (uint64_t)size || own > (uint64_t)most || shared + own > (uint64_t)most) { p = NULL; break; }
        if (own > (uint64_t)(end - p) || length > (uint64_t)(end - p) - own) { p = NULL; break; }
        memcpy(key + shared, p, own);
        size = (Py_ssize_t)(shared + own);
        if (above != Py_None) {
            Py_ssize_t n = PyBytes_GET_SIZE(above);
            int order = memcmp(key, PyBytes_AS_STRING(above), (size_t)(size < n ? size : n));
            if (order < 0 || (!order && size <= n)) { p = NULL; break; }
        }
        Py_DECREF(above);
        if ((above = PyBytes_FromStringAndSize((const char *)key, size)) == NULL) goto end;
        p += own;
        if (PyList_Append(lists[0], above) < 0 || (!shared && put_number(lists[3], (uint64_t)(at - base - start)) < 0) ||
            put(lists[1], Py_BuildValue("(nn)", p - base, p - base + (Py_ssize_t)length)) < 0 ||
            put(lists[2], bundle_entry(p, p + length, heads)) < 0) {
            Py_DECREF(above);
            goto end;
        }
        p += length;
        kept += size;
    }
    Py_DECREF(above);
    if (p == NULL) goto other;
    out = Py_BuildValue("(OOOOn)", lists[0], lists[1], lists[2], lists[3], kept);
    goto end;
other:
    out = Py_NewRef(Py_None);
end:
    PyMem_Free(key);
    for (int i = 0; i < 4; i++) Py_XDECREF(lists[i]);
    PyBuffer_Release(&data);
    return out;
}

/* ---- safetensors -------------------------------------------------------------------------------------------------------------- */

static Bytes number(Bytes p, Bytes end, uint64_t *value)
{
    uint64_t n = 0;
    Bytes start = p;
    for (; p < end && *p >= '0' && *p <= '9' && p - start < 19; p++) n = 10 * n + (*p - '0');
    *value = n;
    return p == start || (*start == '0' && p - start > 1) ? NULL : p;
}

#define TEXT(words)                                                                  \
    do {                                                                             \
        size_t size_ = strlen(words);                                                \
        if ((size_t)(end - p) < size_ || memcmp(p, words, size_)) goto other;        \
        p += size_;                                                                  \
    } while (0)

/* entries(text, at, gap): the entries of a safetensors header from its first name on, to the brace at its end (and blanks), with a blank
 * after each colon and comma where `gap`. (names, what stands between '"dtype":' and ',"data_offsets"', begins, ends); None for others */
static PyObject *py_entries(PyObject *self, PyObject *args)
{
    Py_buffer data;
    Py_ssize_t at;
    int gap;
    PyObject *out = NULL, *known = PyDict_New(), *lists[4] = {NULL};
    if (known == NULL || !PyArg_ParseTuple(args, "y*np", &data, &at, &gap)) { Py_XDECREF(known); return NULL; }
    for (int i = 0; i < 4; i++) if ((lists[i] = PyList_New(0)) == NULL) goto end;
    Bytes p = (Bytes)data.buf + (at < 0 || at > data.len ? data.len : at), end = (Bytes)data.buf + data.len;
    const char *open = gap ? "\": {\"dtype\": " : "\":{\"dtype\":", *offsets = gap ? ", \"data_offsets\": [" : ",\"data_offsets\":[";
    size_t long_ = strlen(offsets);
    for (;;) {
        uint64_t begin, stop;
        TEXT("\"");
        Bytes name = p;
        while (p < end && *p != '"' && *p != '\\' && *p >= 32) p++;
        if (p == name) goto other;
        if (put(lists[0], PyUnicode_DecodeUTF8((const char *)name, p - name, "strict")) < 0) goto undecoded;
        TEXT(open);
        Bytes kind = p;
        while (p < end && *p != ']' && *p != '{' && *p != '}') p++;
        if (p >= end || *p != ']' || (size_t)(end - ++p) < long_ || memcmp(p, offsets, long_)) goto other;
        PyObject *text = PyBytes_FromStringAndSize((const char *)kind, p - kind), *same = NULL;
        if (text == NULL || (same = PyDict_SetDefault(known, text, text)) == NULL || PyList_Append(lists[1], same) < 0) {
            Py_XDECREF(text);
            goto end;
        }
        Py_DECREF(text);
        p += long_;
        if ((p = number(p, end, &begin)) == NULL) goto other;
        TEXT(gap ? ", " : ",");
        if ((p = number(p, end, &stop)) == NULL) goto other;
        TEXT("]}");
        if (put_number(lists[2], begin) < 0 || put_number(lists[3], stop) < 0) goto end;
        if (p < end && *p == '}') break;
        TEXT(gap ? ", " : ",");
    }
    for (p++; p < end; p++) if (*p != ' ') goto other;
    out = Py_BuildValue("(OOOO)", lists[0], lists[1], lists[2], lists[3]);
    goto end;
undecoded:
    if (!PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) goto end;
    PyErr_Clear();
other:
    out = Py_NewRef(Py_None);
end:
    Py_DECREF(known);
    for (int i = 0; i < 4; i++) Py_XDECREF(lists[i]);
    PyBuffer_Release(&data);
    return out;
}

/* ---- what many names and tensors have in common ----------------------------------------------------------------------------------- */

static PyObject *listed(PyObject *items) { return PyDict_Check(items) ? PyDict_Values(items) : PySequence_Fast(items, "items are a list"); }

static size_t mixed(size_t h, size_t more) { h = (h ^ more) * (size_t)0x9E3779B97F4A7C15u; return h ^ h >> 29; }

static size_t seed; /* of this process: nobody can write names for which hashes are the same */

static size_t text_hash(const char *text, Py_ssize_t n)
{
    size_t h = seed + (size_t)n, word;
    for (; n >= (Py_ssize_t)sizeof word; n -= sizeof word, text += sizeof word) { memcpy(&word, text, sizeof word); h = mixed(h, word); }
    for (; n > 0; n--) h = mixed(h, (unsigned char)*text++);
    return h;
}

/* places by hash: of as many things as there is room for, none twice. -1 where nothing is */
typedef struct { int32_t *at; size_t mask; } Places;

static int places_for(Places *p, Py_ssize_t most)
{
    size_t room = 64;
    while (room < 2 * (size_t)most) room *= 2;
    p->mask = room - 1;
    if ((p->at = PyMem_Malloc(room * sizeof *p->at)) == NULL) { PyErr_NoMemory(); return -1; }
    memset(p->at, 0xFF, room * sizeof *p->at);
    return 0;
}

#define MANY_ITEMS (1 << 28)

/* sorts(items, fields): sort items (tuples; the values of a dict) by these of their fields, by identity; by themselves where there are
 * none. (the number of each one's sort, the first item of each sort, how many are of each), sorts in the order in which they are met */
static PyObject *py_sorts(PyObject *self, PyObject *args)
{
    PyObject *items, *fields, *all = NULL, *ids = NULL, *firsts = PyList_New(0), *counts = NULL, *out = NULL;
    Py_ssize_t of[8], *tally = NULL;
    Places places = {NULL, 0};
    if (firsts == NULL || !PyArg_ParseTuple(args, "OO!", &items, &PyTuple_Type, &fields)) goto end;
    Py_ssize_t width = PyTuple_GET_SIZE(fields), most = -1;
    if (width > 8) { PyErr_SetString(PyExc_ValueError, "at most eight fields"); goto end; }
    for (Py_ssize_t f = 0; f < width; f++) {
        of[f] = PyLong_AsSsize_t(PyTuple_GET_ITEM(fields, f));
        if (of[f] < 0) { if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "no such field"); goto end; }
        if (of[f] > most) most = of[f];
    }
    if ((all = listed(items)) == NULL) goto end;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(all), known = 0, before = -1;
    if (count > MANY_ITEMS) { PyErr_NoMemory(); goto end; }
    if ((ids = PyList_New(count)) == NULL || places_for(&places, count) < 0) goto end;
    if ((tally = PyMem_Malloc((size_t)(count + 1) * sizeof *tally)) == NULL) { PyErr_NoMemory(); goto end; }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PySequence_Fast_GET_ITEM(all, i);
        if (width && (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) <= most)) {
            PyErr_SetString(PyExc_ValueError, "no such field");
            goto end;
        }
        Py_ssize_t found = before;
        size_t h = width ? 0 : mixed(0, (size_t)item);
        for (Py_ssize_t f = 0; f < width; f++) h = mixed(h, (size_t)PyTuple_GET_ITEM(item, of[f]));
        for (size_t at = h & places.mask;; at = (at + 1) & places.mask) {
            if ((found = places.at[at]) < 0) {
                if (PyList_Append(firsts, item) < 0) goto end;
                found = places.at[at] = (int32_t)known;
                tally[known++] = 0;
                break;
            }
            PyObject *other = PyList_GET_ITEM(firsts, found);
            Py_ssize_t f = 0;
            while (f < width && PyTuple_GET_ITEM(item, of[f]) == PyTuple_GET_ITEM(other, of[f])) f++;
            if (width ? f == width : item == other) break;
        }
        tally[found]++;
        PyObject *number = PyLong_FromSsize_t(found);
        if (number == NULL) goto end;
        PyList_SET_ITEM(ids, i, number);
    }
    if ((counts = PyList_New(known)) == NULL) goto end;
    for (Py_ssize_t i = 0; i < known; i++) {
        PyObject *number = PyLong_FromSsize_t(tally[i]);
        if (number == NULL) goto end;
        PyList_SET_ITEM(counts, i, number);
    }
    out = PyTuple_Pack(3, ids, firsts, counts);
end:
    PyMem_Free(places.at);
    PyMem_Free(tally);
    Py_XDECREF(all);
    Py_XDECREF(ids);
    Py_XDECREF(firsts);
    Py_XDECREF(counts);
    return out;
}

/* pluck(items, path, otherwise): of each item (the values of a dict) what lies at a path of indices; `otherwise` where it has nothing */
static PyObject *py_pluck(PyObject *self, PyObject *args)
{
    PyObject *items, *path, *otherwise, *all, *out;
    Py_ssize_t steps[4];
    if (!PyArg_ParseTuple(args, "OO!O", &items, &PyTuple_Type, &path, &otherwise)) return NULL;
    Py_ssize_t depth = PyTuple_GET_SIZE(path);
    if (depth > 4) { PyErr_SetString(PyExc_ValueError, "at most four steps"); return NULL; }
    for (Py_ssize_t d = 0; d < depth; d++) {
        steps[d] = PyLong_AsSsize_t(PyTuple_GET_ITEM(path, d));
        if (steps[d] < 0) { if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "no such step"); return NULL; }
    }
    if ((all = listed(items)) == NULL) return NULL;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(all);
    out = PyList_New(count);
    for (Py_ssize_t i = 0; out != NULL && i < count; i++) {
        PyObject *at = Py_NewRef(PySequence_Fast_GET_ITEM(all, i));
        for (Py_ssize_t d = 0; d < depth; d++) {
            PyObject *next = NULL;
            if (PyTuple_Check(at)) next = Py_NewRef(steps[d] < PyTuple_GET_SIZE(at) ? PyTuple_GET_ITEM(at, steps[d]) : otherwise);
            else if (PyObject_Length(at) > steps[d]) next = PySequence_GetItem(at, steps[d]);
            else if (!PyErr_Occurred()) next = Py_NewRef(otherwise);
            Py_DECREF(at);
            if ((at = next) == NULL || at == otherwise) break;
        }
        if (at == NULL) Py_CLEAR(out);
        else PyList_SET_ITEM(out, i, at);
    }
    Py_DECREF(all);
    return out;
}

/* tuples(kind, columns, count): named tuples of columns, each a list, (what is the same in each,) or (numbers, what each stands for) */
static PyObject *py_tuples(PyObject *self, PyObject *args)
{
    PyObject *kind, *columns, *out;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "O!O!n", &PyType_Type, &kind, &PyList_Type, &columns, &count)) return NULL;
    PyTypeObject *type = (PyTypeObject *)kind;
    Py_ssize_t width = PyList_GET_SIZE(columns);
    int fits = PyType_IsSubtype(type, &PyTuple_Type) && count >= 0;
    for (Py_ssize_t c = 0; c < width; c++) {
        PyObject *column = PyList_GET_ITEM(columns, c);
        Py_ssize_t parts = PyTuple_Check(column) ? PyTuple_GET_SIZE(column) : 0;
        if (parts == 2) fits &= PyList_Check(PyTuple_GET_ITEM(column, 1));
        if (parts != 1) {
            PyObject *list = parts ? PyTuple_GET_ITEM(column, 0) : column;
            fits &= parts <= 2 && PyList_Check(list) && PyList_GET_SIZE(list) == count;
        }
    }
    if (!fits) { PyErr_SetString(PyExc_ValueError, "a column is a list of as many items as there are rows"); return NULL; }
    if ((out = PyList_New(count)) == NULL) return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *made = type->tp_alloc(type, width);
        if (made == NULL) goto failed;
        PyList_SET_ITEM(out, i, made);
        for (Py_ssize_t c = 0; c < width; c++) {
            PyObject *column = PyList_GET_ITEM(columns, c), *item;
            if (PyList_Check(column)) item = PyList_GET_ITEM(column, i);
            else if (PyTuple_GET_SIZE(column) == 1) item = PyTuple_GET_ITEM(column, 0);
            else {
                PyObject *table = PyTuple_GET_ITEM(column, 1);
                Py_ssize_t n = PyLong_AsSsize_t(PyList_GET_ITEM(PyTuple_GET_ITEM(column, 0), i));
                if (n < 0 || n >= PyList_GET_SIZE(table)) {
                    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a number stands for nothing");
                    goto failed;
                }
                item = PyList_GET_ITEM(table, n);
            }
            PyTuple_SET_ITEM(made, c, Py_NewRef(item));
        }
    }
    return out;
failed:
    Py_DECREF(out);
    return NULL;
}

static inline int is_digit(char c) { return c >= '0' && c <= '9'; }

/* the text of a name of ASCII without line ends; NULL, without an error, for another */
static const char *plain(PyObject *name, Py_ssize_t *n)
{
    if (!PyUnicode_Check(name) || PyUnicode_READY(name) < 0 || !PyUnicode_IS_COMPACT_ASCII(name)) { PyErr_Clear(); return NULL; }
    *n = PyUnicode_GET_LENGTH(name);
    const char *text = (const char *)PyUnicode_1BYTE_DATA(name);
    return memchr(text, '\n', (size_t)*n) == NULL ? text : NULL;
}

/* patterns(names): names with each run of digits as "#": (of each, equal ones the same object; the different ones, in the order in which
 * they are met; how often each is there); None where a name is not of ASCII, or has a "#" or a line end of its own */
static PyObject *py_patterns(PyObject *self, PyObject *args)
{
    PyObject *names, *all = NULL, *every = NULL, *few = PyList_New(0), *counts = NULL, *out = NULL;
    Py_ssize_t *tally = NULL, room = 256;
    Places places = {NULL, 0};
    char *made = PyMem_Malloc((size_t)room);
    if (few == NULL || made == NULL || !PyArg_ParseTuple(args, "O", &names)) goto end;
    if ((all = listed(names)) == NULL) goto end;
    Py_ssize_t count = PySequence_Fast_GET_SIZE(all), known = 0;
    if (count > MANY_ITEMS) { PyErr_NoMemory(); goto end; }
    if ((every = PyList_New(count)) == NULL || places_for(&places, count) < 0) goto end;
    if ((tally = PyMem_Malloc((size_t)(count + 1) * sizeof *tally)) == NULL) { PyErr_NoMemory(); goto end; }
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t n, size = 0, found;
        const char *text = plain(PySequence_Fast_GET_ITEM(all, i), &n);
        if (text == NULL || memchr(text, '#', (size_t)n) != NULL) { out = Py_NewRef(Py_None); goto end; }
        if (n > room) {
            char *more = PyMem_Realloc(made, (size_t)(room = 2 * n));
            if (more == NULL) { PyErr_NoMemory(); goto end; }
            made = more;
        }
        for (Py_ssize_t k = 0; k < n; k++) {
            if (!is_digit(text[k])) made[size++] = text[k];
            else if (!k || !is_digit(text[k - 1])) made[size++] = '#';
        }
        for (size_t at = text_hash(made, size) & places.mask;; at = (at + 1) & places.mask) {
            if ((found = places.at[at]) < 0) {
                if (put(few, PyUnicode_DecodeASCII(made, size, NULL)) < 0) goto end;
                found = places.at[at] = (int32_t)known;
                tally[known++] = 0;
                break;
            }
            PyObject *other = PyList_GET_ITEM(few, found);
            if (PyUnicode_GET_LENGTH(other) == size && !memcmp(PyUnicode_1BYTE_DATA(other), made, (size_t)size)) break;
        }
        tally[found]++;
        PyList_SET_ITEM(every, i, Py_NewRef(PyList_GET_ITEM(few, found)));
    }
    if ((counts = PyList_New(known)) == NULL) goto end;
    for (Py_ssize_t i = 0; i < known; i++) {
        PyObject *number = PyLong_FromSsize_t(tally[i]);
        if (number == NULL) goto end;
        PyList_SET_ITEM(counts, i, number);
    }
    out = PyTuple_Pack(3, every, few, counts);
end:
    PyMem_Free(made);
    PyMem_Free(places.at);
    PyMem_Free(tally);
    Py_XDECREF(all);
    Py_XDECREF(every);
    Py_XDECREF(few);
    Py_XDECREF(counts);
    return out;
}

/* where the number of a layer stands in a name and where what is below it begins. 1 where there is one, 0 where there is none, -1 where it
 * is written in a way that Python is to look at. `whole`: a component of its own, or behind "layer_" and the like; else the first number,
 * if its component has no other */
static int layer_in(const char *text, Py_ssize_t n, int whole, Py_ssize_t *start, Py_ssize_t *stop, Py_ssize_t *rest)
{
    static const char *const words[] = {"layer_", "block_", "layers_", "blocks_"};
    for (Py_ssize_t i = 0; i < n; i++) {
        if (!is_digit(text[i])) continue;
        Py_ssize_t end = i + 1;
        while (end < n && is_digit(text[end])) end++;
        *start = i;
        *stop = end;
        if (!whole) {
            if (text[i] == '0' && end - i > 1) return 0;
            if (end - i > 9) return -1;
            while (end < n && !is_digit(text[end]) && text[end] != '.' && text[end] != '/') end++;
            if (end < n && is_digit(text[end])) return 0;
            *rest = end < n ? end + 1 : n;
            return 1;
        }
        *rest = end;
        int fits = i && (text[i - 1] == '.' || text[i - 1] == '/');
        for (int w = 0; w < 4 && i && !fits; w++) {
            Py_ssize_t size = (Py_ssize_t)strlen(words[w]);
            fits = i >= size && !memcmp(text + i - size, words[w], (size_t)size);
        }
        if (fits && end - i < 8 && (end == n || text[end] == '.' || text[end] == '/')) return text[i] == '0' && end - i > 1 ? -1 : 1;
        i = end - 1;
    }
    return 0;
}

typedef struct { const char *text; Py_ssize_t start, stop, rest; size_t kind; int32_t next; } Named;
typedef struct { int32_t run, number, first, last, count, same, least, next, peer, last_peer; size_t hash; } Layer;

static int alike(const Named *named, const Py_ssize_t *sizes, const Layer *a, const Layer *b)
{
    if (a->hash != b->hash || a->count != b->count || a->run != b->run) return 0;
    int32_t i = a->first, j = b->first;
    for (; i >= 0 && j >= 0; i = named[i].next, j = named[j].next) {
        Py_ssize_t n = sizes[i] - named[i].rest;
        if (n != sizes[j] - named[j].rest || named[i].kind != named[j].kind ||
            memcmp(named[i].text + named[i].rest, named[j].text + named[j].rest, (size_t)n))
            return 0;
    }
    return i == j;
}

/* the groups of the layers of one run: [([numbers], [the places of the names of the layer with the least], [what is below it])] */
static PyObject *groups_of(const Named *named, const Py_ssize_t *sizes, const Layer *layers, int32_t l)
{
    PyObject *out = PyList_New(0);
    for (; out != NULL && l >= 0; l = layers[l].next) {
        if (layers[l].same != l) continue;
        PyObject *numbers = PyList_New(0), *places = PyList_New(0), *rests = PyList_New(0);
        int bad = numbers == NULL || places == NULL || rests == NULL;
        for (int32_t k = l; !bad && k >= 0; k = layers[k].peer) bad = put(numbers, PyLong_FromLong(layers[k].number)) < 0;
        for (int32_t i = layers[layers[l].least].first; !bad && i >= 0; i = named[i].next) {
            const Named *x = named + i;
            bad = put(places, PyLong_FromLong(i)) < 0 || put(rests, PyUnicode_DecodeASCII(x->text + x->rest, sizes[i] - x->rest, NULL)) < 0;
        }
        if (bad || put(out, PyTuple_Pack(3, numbers, places, rests)) < 0) Py_CLEAR(out);
        Py_XDECREF(numbers);
        Py_XDECREF(places);
        Py_XDECREF(rests);
    }
    return out;
}

/* layered(names, kinds, whole): the layers that numbers in names make, equal ones together: those of which what is below the number, and
 * the kind of each (by identity), are the same in the same order. ([the places of names without a number], [(what is before the number,
 * what is behind it, groups)]), all in the order in which they are met; None where a name is not of ASCII, or a number has zeros before
 * it, or too many digits. `whole`: as `layer_in` */
static PyObject *py_layered(PyObject *self, PyObject *args)
{
    PyObject *names, *kinds, *others = PyList_New(0), *runs = PyList_New(0), *out = NULL;
    int whole;
    Named *named = NULL;
    Layer *layers = NULL;
    Py_ssize_t *sizes = NULL;
    int32_t *of_run = NULL, *last_of_run = NULL, made = 0, known = 0;
    Places by_run = {NULL, 0}, by_number = {NULL, 0}, by_hash = {NULL, 0};
    if (others == NULL || runs == NULL || !PyArg_ParseTuple(args, "O!O!p", &PyList_Type, &names, &PyList_Type, &kinds, &whole)) goto end;
    Py_ssize_t count = PyList_GET_SIZE(names);
    if (PyList_GET_SIZE(kinds) != count) { PyErr_SetString(PyExc_ValueError, "a kind for each name is wanted"); goto end; }
    if (count > MANY_ITEMS) { PyErr_NoMemory(); goto end; }
    size_t room = (size_t)count + 1;
    named = PyMem_Malloc(room * sizeof *named);
    layers = PyMem_Malloc(room * sizeof *layers);
    sizes = PyMem_Malloc(room * sizeof *sizes);
    of_run = PyMem_Malloc(room * sizeof *of_run);
    last_of_run = PyMem_Malloc(room * sizeof *last_of_run);
    if (!named || !layers || !sizes || !of_run || !last_of_run) { PyErr_NoMemory(); goto end; }
    if (places_for(&by_run, count) < 0 || places_for(&by_number, count) < 0 || places_for(&by_hash, count) < 0) goto end;
    for (int32_t i = 0; i < count; i++) {
        Named *x = named + i;
        if ((x->text = plain(PyList_GET_ITEM(names, i), sizes + i)) == NULL) goto other;
        x->kind = (size_t)PyList_GET_ITEM(kinds, i);
        x->next = -1;
        int found = layer_in(x->text, sizes[i], whole, &x->start, &x->stop, &x->rest);
        if (found < 0) goto other;
        if (!found) {
            if (put(others, PyLong_FromLong(i)) < 0) goto end;
            continue;
        }
        int32_t number = 0, run, l;
        for (Py_ssize_t k = x->start; k < x->stop; k++) number = 10 * number + (x->text[k] - '0');
        Py_ssize_t behind = x->rest - x->stop;
        size_t h = mixed(text_hash(x->text, x->start), text_hash(x->text + x->stop, behind));
        for (size_t at = h & by_run.mask;; at = (at + 1) & by_run.mask) {
            if ((run = by_run.at[at]) < 0) {
                run = by_run.at[at] = known++;
                of_run[run] = last_of_run[run] = -1;
                break;
            }
            const Named *y = named + layers[of_run[run]].first;
            if (y->start == x->start && y->rest - y->stop == behind && !memcmp(x->text, y->text, (size_t)x->start) &&
                !memcmp(x->text + x->stop, y->text + y->stop, (size_t)behind))
                break;
        }
        for (size_t at = mixed(mixed(1, (size_t)run), (size_t)number) & by_number.mask;; at = (at + 1) & by_number.mask) {
            if ((l = by_number.at[at]) < 0) {
                l = by_number.at[at] = made++;
                layers[l] = (Layer){run, number, i, i, 0, l, l, -1, -1, l, seed};
                if (last_of_run[run] < 0) of_run[run] = l; else layers[last_of_run[run]].next = l;
                last_of_run[run] = l;
                break;
            }
            if (layers[l].run == run && layers[l].number == number) break;
        }
        if (layers[l].count++) named[layers[l].last].next = i;
        layers[l].last = i;
        layers[l].hash = mixed(mixed(layers[l].hash, x->kind), text_hash(x->text + x->rest, sizes[i] - x->rest));
    }
    for (int32_t l = 0; l < made; l++) {
        for (size_t at = mixed(layers[l].hash, (size_t)layers[l].run) & by_hash.mask;; at = (at + 1) & by_hash.mask) {
            int32_t first = by_hash.at[at];
            if (first < 0) { by_hash.at[at] = l; break; }
            if (!alike(named, sizes, layers + first, layers + l)) continue;
            layers[l].same = first;
            layers[layers[first].last_peer].peer = l;
            layers[first].last_peer = l;
            if (layers[l].number < layers[layers[first].least].number) layers[first].least = l;
            break;
        }
    }
    for (int32_t run = 0; run < known; run++) {
        const Named *x = named + layers[of_run[run]].first;
        PyObject *groups = groups_of(named, sizes, layers, of_run[run]);
        if (groups == NULL) goto end;
        if (put(runs, Py_BuildValue("(s#s#N)", x->text, x->start, x->text + x->stop, x->rest - x->stop, groups)) < 0) goto end;
    }
    out = PyTuple_Pack(2, others, runs);
    goto end;
other:
    out = Py_NewRef(Py_None);
end:
    PyMem_Free(named);
    PyMem_Free(layers);
    PyMem_Free(sizes);
    PyMem_Free(of_run);
    PyMem_Free(last_of_run);
    PyMem_Free(by_run.at);
    PyMem_Free(by_number.at);
    PyMem_Free(by_hash.at);
    Py_XDECREF(others);
    Py_XDECREF(runs);
    return out;
}

/* ---- writing ------------------------------------------------------------------------------------------------------------------ */

static int digits_of(uint64_t n, char *out)
{
    char turned[20];
    int count = 0;
    do { turned[count++] = (char)('0' + n % 10); n /= 10; } while (n);
    for (int i = 0; i < count; i++) out[i] = turned[count - 1 - i];
    return count;
}

static char *put_varint(char *p, size_t n)
{
    for (; n > 127; n >>= 7) *p++ = (char)(n | 128);
    *p++ = (char)n;
    return p;
}

static char *put_word(char *p, uint32_t n)
{
    for (int i = 0; i < 4; i++) *p++ = (char)(n >> (8 * i));
    return p;
}

/* one column of `weave`: what it is (bytes, a list, numbers as "I" or "d", "L" a list of which each has its length before it, "+" numbers
 * that ascend by a step), and where its items come from */
struct column { PyObject *list; char kind; uint64_t first, step; };

static int column_of(PyObject *given, Py_ssize_t count, struct column *out)
{
    *out = (struct column){given, PyBytes_Check(given) ? 'b' : 'l', 0, 0};
    if (PyTuple_Check(given)) {
        PyObject *format = PyTuple_GET_SIZE(given) ? PyTuple_GET_ITEM(given, 0) : NULL;
        if (format == NULL || !PyUnicode_Check(format) || PyUnicode_GET_LENGTH(format) != 1) goto wrong;
        out->kind = (char)PyUnicode_READ_CHAR(format, 0);
        if (out->kind == '+' && PyTuple_GET_SIZE(given) == 3) {
            out->first = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(given, 1));
            if (PyErr_Occurred()) return -1;
            out->step = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(given, 2));
            if (PyErr_Occurred()) return -1;
            if (count && (out->first > UINT32_MAX || out->step > UINT32_MAX ||
                          out->first + out->step * (uint64_t)(count - 1) > UINT32_MAX)) {
                PyErr_SetString(PyExc_ValueError, "a number needs more than 32 bits");
                return -1;
            }
            return 0;
        }
        if ((out->kind != 'I' && out->kind != 'd' && out->kind != 'L') || PyTuple_GET_SIZE(given) != 2) goto wrong;
        out->list = PyTuple_GET_ITEM(given, 1);
    }
    if (out->kind == 'b' || (PyList_Check(out->list) && PyList_GET_SIZE(out->list) == count)) return 0;
wrong:
    PyErr_SetString(PyExc_ValueError, "a column is bytes, or a list of as many items as there are rows");
    return -1;
}

/* weave(columns, count): the columns' items row by row. A column is bytes (the same in each row), a list of bytes or of text (UTF-8), or
 * (format, list): numbers as "I" in 32 bits, little-endian, or "d" as digits; "L" bytes or text behind their length in 32 bits; or
 * ("+", first, step): numbers in 32 bits */
static PyObject *py_weave(PyObject *self, PyObject *args)
{
    PyObject *columns, *out = NULL;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "O!n", &PyList_Type, &columns, &count)) return NULL;
    Py_ssize_t width = PyList_GET_SIZE(columns), room = 1 << 16, size = 0;
    char *buffer = PyMem_Malloc((size_t)room);
    struct column *held = PyMem_Malloc((size_t)(width ? width : 1) * sizeof *held);
    if (buffer == NULL || held == NULL) { PyErr_NoMemory(); goto end; }
    for (Py_ssize_t c = 0; c < width; c++)
        if (column_of(PyList_GET_ITEM(columns, c), count, held + c) < 0) goto end;
    for (Py_ssize_t row = 0; row < count; row++) {
        for (Py_ssize_t c = 0; c < width; c++) {
            struct column *column = held + c;
            char small[24];
            const char *text = small;
            Py_ssize_t n = 4, lead = 0;
            if (column->kind == 'b') {
                text = PyBytes_AS_STRING(column->list);
                n = PyBytes_GET_SIZE(column->list);
            } else if (column->kind == '+') {
                put_word(small, (uint32_t)(column->first + column->step * (uint64_t)row));
            } else if (column->kind == 'I' || column->kind == 'd') {
                uint64_t value = PyLong_AsUnsignedLongLong(PyList_GET_ITEM(column->list, row));
                if (value == (uint64_t)-1 && PyErr_Occurred()) goto end;
                if (column->kind == 'd') n = digits_of(value, small);
                else {
                    if (value > UINT32_MAX) { PyErr_SetString(PyExc_ValueError, "a number needs more than 32 bits"); goto end; }
                    put_word(small, (uint32_t)value);
                }
            } else {
                PyObject *item = PyList_GET_ITEM(column->list, row);
                if (PyBytes_Check(item)) { text = PyBytes_AS_STRING(item); n = PyBytes_GET_SIZE(item); }
                else if ((text = PyUnicode_AsUTF8AndSize(item, &n)) == NULL) goto end;
                if (column->kind == 'L') {
                    if ((uint64_t)n > UINT32_MAX) { PyErr_SetString(PyExc_ValueError, "a text of more than 32 bits"); goto end; }
                    put_word(small, (uint32_t)n);
                    lead = 4;
                }
            }
            if (size + n + lead > room) {
                while (size + n + lead > room) room *= 2;
                char *more = PyMem_Realloc(buffer, (size_t)room);
                if (more == NULL) { PyErr_NoMemory(); goto end; }
                buffer = more;
            }
            memcpy(buffer + size, small, (size_t)lead);
            memcpy(buffer + size + lead, text, (size_t)n);
            size += n + lead;
        }
    }
    out = PyBytes_FromStringAndSize(buffer, size);
end:
    PyMem_Free(buffer);
    PyMem_Free(held);
    return out;
}

/* ---- bytes -------------------------------------------------------------------------------------------------------------------- */

/* scatter(memory, base, offsets, held, start, starts, lengths): runs of `held`, which begins at `start`, to `memory`, which begins at
 * `base` */
static PyObject *py_scatter(PyObject *self, PyObject *args)
{
    Py_buffer to, from;
    PyObject *offsets, *starts, *lengths, *out = NULL;
    long long base, first;
    if (!PyArg_ParseTuple(args, "w*LO!y*LO!O!", &to, &base, &PyList_Type, &offsets, &from, &first, &PyList_Type, &starts,
                          &PyList_Type, &lengths))
        return NULL;
    Py_ssize_t count = PyList_GET_SIZE(offsets);
    if (PyList_GET_SIZE(starts) != count || PyList_GET_SIZE(lengths) != count) {
        PyErr_SetString(PyExc_ValueError, "a start and a length for each run are wanted");
        goto end;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        long long at = PyLong_AsLongLong(PyList_GET_ITEM(offsets, i)), start = PyLong_AsLongLong(PyList_GET_ITEM(starts, i));
        long long n = PyLong_AsLongLong(PyList_GET_ITEM(lengths, i));
        if (PyErr_Occurred()) goto end;
        if (n < 0 || at < base || start < first || n > to.len || n > from.len || at - base > to.len - n || start - first > from.len - n) {
            PyErr_SetString(PyExc_ValueError, "a run that is not within both");
            goto end;
        }
        memcpy((char *)to.buf + (at - base), (const char *)from.buf + (start - first), (size_t)n);
    }
    out = Py_NewRef(Py_None);
end:
    PyBuffer_Release(&to);
    PyBuffer_Release(&from);
    return out;
}

/* build(keys, values, first, interval, most): a block of a table of the items from `first` on, until it has `most` bytes, and before one
 * of twice that; with its restart points. (its content, the next item) */
static PyObject *py_build(PyObject *self, PyObject *args)
{
    PyObject *keys, *values, *out = NULL;
    Py_ssize_t first, interval, most, size = 0, count = 0, restarts = 1, i, starts = 64;
    if (!PyArg_ParseTuple(args, "O!O!nnn", &PyList_Type, &keys, &PyList_Type, &values, &first, &interval, &most)) return NULL;
    if (PyList_GET_SIZE(keys) != PyList_GET_SIZE(values) || first < 0 || first >= PyList_GET_SIZE(keys) || most < 1 || most > 1 << 28) {
        PyErr_SetString(PyExc_ValueError, "as many values as keys are wanted");
        return NULL;
    }
    size_t room = 2 * (size_t)most;
    char *buffer = PyMem_Malloc(room);
    uint32_t *whole = PyMem_Malloc((size_t)starts * 4);
    const char *last = NULL;
    Py_ssize_t last_size = 0;
    if (buffer == NULL || whole == NULL) { PyErr_NoMemory(); goto end; }
    whole[0] = 0;
    for (i = first; i < PyList_GET_SIZE(keys); i++) {
        PyObject *key = PyList_GET_ITEM(keys, i), *value = PyList_GET_ITEM(values, i);
        if (!PyBytes_Check(key) || !PyBytes_Check(value)) { PyErr_SetString(PyExc_ValueError, "keys and values are bytes"); goto end; }
        Py_ssize_t n = PyBytes_GET_SIZE(key), length = PyBytes_GET_SIZE(value), shared = 0;
        const char *text = PyBytes_AS_STRING(key);
        if (size && n + length >= 2 * most) break;
        if (count == interval) {
            if (restarts == starts) {
                uint32_t *more = PyMem_Realloc(whole, (size_t)(starts *= 2) * 4);
                if (more == NULL) { PyErr_NoMemory(); goto end; }
                whole = more;
            }
            whole[restarts++] = (uint32_t)size;
            count = 0;
        } else if (count) {
            while (shared < n && shared < last_size && text[shared] == last[shared]) shared++;
        }
        if ((size_t)(size + n + length + 32) > room) {
            room = 2 * (size_t)(size + n + length + 32);
            char *more = PyMem_Realloc(buffer, room);
            if (more == NULL) { PyErr_NoMemory(); goto end; }
            buffer = more;
        }
        char *p = put_varint(put_varint(put_varint(buffer + size, (size_t)shared), (size_t)(n - shared)), (size_t)length);
        memcpy(p, text + shared, (size_t)(n - shared));
        memcpy(p + n - shared, PyBytes_AS_STRING(value), (size_t)length);
        size = p - buffer + n - shared + length;
        last = text;
        last_size = n;
        count++;
        if (size + 4 * restarts + 4 >= most) { i++; break; }
    }
    out = PyBytes_FromStringAndSize(NULL, size + 4 * restarts + 4);
    if (out == NULL) goto end;
    char *p = PyBytes_AS_STRING(out);
    memcpy(p, buffer, (size_t)size);
    p += size;
    for (Py_ssize_t r = 0; r < restarts; r++) p = put_word(p, whole[r]);
    put_word(p, (uint32_t)restarts);
    out = Py_BuildValue("(Nn)", out, i);
end:
    PyMem_Free(buffer);
    PyMem_Free(whole);
    return out;
}

/* protos(heads, tails, offsets, sums): the BundleEntryProto of each: its head, the offset, its tail and the masked checksum; None for one
 * of another form (no tail, or a checksum that masked is 0) */
static PyObject *py_protos(PyObject *self, PyObject *args)
{
    PyObject *heads, *tails, *offsets, *sums, *out;
    if (!PyArg_ParseTuple(args, "O!O!O!O!", &PyList_Type, &heads, &PyList_Type, &tails, &PyList_Type, &offsets, &PyList_Type, &sums))
        return NULL;
    Py_ssize_t count = PyList_GET_SIZE(heads);
    if (PyList_GET_SIZE(tails) != count || PyList_GET_SIZE(offsets) != count || PyList_GET_SIZE(sums) != count) {
        PyErr_SetString(PyExc_ValueError, "a tail, an offset and a checksum for each entry are wanted");
        return NULL;
    }
    if ((out = PyList_New(0)) == NULL) return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *head = PyList_GET_ITEM(heads, i), *tail = PyList_GET_ITEM(tails, i);
        if (!PyBytes_Check(head) || !PyBytes_Check(tail)) { PyErr_SetString(PyExc_ValueError, "heads and tails are bytes"); goto failed; }
        unsigned long long offset = PyLong_AsUnsignedLongLong(PyList_GET_ITEM(offsets, i));
        if (PyErr_Occurred()) goto failed;
        unsigned long long sum = PyLong_AsUnsignedLongLong(PyList_GET_ITEM(sums, i));
        if (PyErr_Occurred()) goto failed;
        if (sum > UINT32_MAX) { PyErr_SetString(PyExc_ValueError, "a checksum of more than 32 bits"); goto failed; }
        uint32_t crc = (uint32_t)sum, masked = (crc >> 15 | crc << 17) + 0xA282EAD8u;
        Py_ssize_t before = PyBytes_GET_SIZE(head), after = PyBytes_GET_SIZE(tail);
        if (!after || !masked) {
            if (PyList_Append(out, Py_None) < 0) goto failed;
            continue;
        }
        char middle[12], *end = middle;
        if (offset) {
            *end++ = ' ';
            for (; offset > 127; offset >>= 7) *end++ = (char)(offset | 128);
            *end++ = (char)offset;
        }
        PyObject *made = PyBytes_FromStringAndSize(NULL, before + (end - middle) + after + 4);
        if (made == NULL) goto failed;
        char *p = PyBytes_AS_STRING(made);
        memcpy(p, PyBytes_AS_STRING(head), (size_t)before);
        memcpy(p + before, middle, (size_t)(end - middle));
        p += before + (end - middle);
        memcpy(p, PyBytes_AS_STRING(tail), (size_t)after);
        put_word(p + after, masked);
        if (put(out, made) < 0) goto failed;
    }
    return out;
failed:
    Py_DECREF(out);
    return NULL;
}

static char *put_half(char *p, uint32_t n)
{
    *p++ = (char)n;
    *p++ = (char)(n >> 8);
    return p;
}

/* records to be written, by columns: names, headers, starts, sizes, checksums; -1 where they are not as many of each */
static int records_of(PyObject *args, PyObject **columns)
{
    if (!PyArg_ParseTuple(args, "O!O!O!O!O!", &PyList_Type, columns, &PyList_Type, columns + 1, &PyList_Type, columns + 2, &PyList_Type,
                          columns + 3, &PyList_Type, columns + 4))
        return -1;
    for (int k = 1; k < 5; k++)
        if (PyList_GET_SIZE(columns[k]) != PyList_GET_SIZE(columns[0])) {
            PyErr_SetString(PyExc_ValueError, "a header, a start, a size and a checksum for each record are wanted");
            return -1;
        }
    return 0;
}

/* the name of a record, (header, start, size) and its checksum; 0 where it is empty or needs more than 32 bits */
static int record(PyObject **columns, Py_ssize_t i, const char **name, Py_ssize_t *length, long long *of, uint32_t *crc)
{
    if ((*name = PyUnicode_AsUTF8AndSize(PyList_GET_ITEM(columns[0], i), length)) == NULL) return -1;
    for (int k = 0; k < 3; k++) {
        of[k] = PyLong_AsLongLong(PyList_GET_ITEM(columns[k + 1], i));
        if (of[k] == -1 && PyErr_Occurred()) return -1;
    }
    unsigned long sum = PyLong_AsUnsignedLong(PyList_GET_ITEM(columns[4], i));
    if (sum == (unsigned long)-1 && PyErr_Occurred()) return -1;
    *crc = (uint32_t)sum;
    long long pad = of[1] - of[0] - 34 - *length;
    return of[0] >= 0 && of[0] < UINT32_MAX && of[2] > 0 && of[2] < UINT32_MAX && *length < 0xFFFF && pad >= 0 && pad < 0xFF00;
}

/* place(names, sizes, align): (headers, starts) of records one after another, their bytes at multiples of `align`; None where one needs
 * more than 32 bits */
static PyObject *py_place(PyObject *self, PyObject *args)
{
    PyObject *names, *sizes, *headers, *starts = NULL;
    unsigned long long at = 0, align;
    if (!PyArg_ParseTuple(args, "O!O!K", &PyList_Type, &names, &PyList_Type, &sizes, &align)) return NULL;
    Py_ssize_t count = PyList_GET_SIZE(names), length;
    if (PyList_GET_SIZE(sizes) != count || !align) { PyErr_SetString(PyExc_ValueError, "a size for each name is wanted"); return NULL; }
    if ((headers = PyList_New(0)) == NULL || (starts = PyList_New(0)) == NULL) goto failed;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyList_GET_ITEM(names, i), *size = PyList_GET_ITEM(sizes, i);
        unsigned long long n = PyLong_AsUnsignedLongLong(size);
        if (PyErr_Occurred() || PyUnicode_AsUTF8AndSize(name, &length) == NULL) goto failed;
        if (n >= UINT32_MAX || at >= UINT32_MAX) {
            Py_DECREF(headers);
            Py_DECREF(starts);
            return Py_NewRef(Py_None);
        }
        unsigned long long start = (at + 34 + (unsigned long long)length + align - 1) / align * align;
        if (put_number(headers, at) < 0 || put_number(starts, start) < 0) goto failed;
        at = start + n + (n ? 16 : 0);
    }
    return Py_BuildValue("(NN)", headers, starts);
failed:
    Py_XDECREF(headers);
    Py_XDECREF(starts);
    return NULL;
}

/* tails(names, headers, starts, sizes, checksums): what stands behind each record's bytes: its descriptor, and the local header of the
 * next (of the last: nothing); None where one is empty or large */
static PyObject *py_tails(PyObject *self, PyObject *args)
{
    PyObject *columns[5], *out;
    if (records_of(args, columns) < 0) return NULL;
    Py_ssize_t count = PyList_GET_SIZE(columns[0]), length, next_length = 0;
    const char *name, *next = NULL;
    long long of[3], after[3] = {0, 0, 0};
    uint32_t crc, next_crc;
    int fits = 1;
    if ((out = PyList_New(0)) == NULL) return NULL;
    for (Py_ssize_t i = 0; i < count; i++) {
        if ((fits = record(columns, i, &name, &length, of, &crc)) != 1) goto other;
        Py_ssize_t pad = 0, size = 16;
        if (i + 1 < count) {
            if ((fits = record(columns, i + 1, &next, &next_length, after, &next_crc)) != 1) goto other;
            pad = (Py_ssize_t)(after[1] - after[0] - 34 - next_length);
            size += 34 + next_length + pad;
        }
        PyObject *made = PyBytes_FromStringAndSize(NULL, size);
        if (made == NULL) goto failed;
        char *p = PyBytes_AS_STRING(made);
        memcpy(p, "PK\7\10", 4);
        p = put_word(put_word(put_word(p + 4, crc), (uint32_t)of[2]), (uint32_t)of[2]);
        if (i + 1 < count) {
            memcpy(p, "PK\3\4", 4);
            memset(p + 4, 0, 22);
            put_half(p + 6, 0x0808);
            p = put_half(put_half(p + 26, (uint32_t)next_length), (uint32_t)(4 + pad));
            memcpy(p, next, (size_t)next_length);
            p += next_length;
            *p++ = 'F';
            *p++ = 'B';
            p = put_half(p, (uint32_t)pad);
            memset(p, 'Z', (size_t)pad);
        }
        if (put(out, made) < 0) goto failed;
    }
    return out;
other:
    Py_DECREF(out);
    return fits < 0 ? NULL : Py_NewRef(Py_None);
failed:
    Py_DECREF(out);
    return NULL;
}

/* directory(names, headers, starts, sizes, checksums): the entries of a zip's central directory; None where one is empty or large */
static PyObject *py_directory(PyObject *self, PyObject *args)
{
    PyObject *columns[5], *out = NULL;
    if (records_of(args, columns) < 0) return NULL;
    Py_ssize_t count = PyList_GET_SIZE(columns[0]), length, size = 0;
    const char *name;
    long long of[3];
    uint32_t crc;
    char *p = NULL;
    for (int round = 0; round < 2; round++) { /* how long it is, and then what it says */
        for (Py_ssize_t i = 0; i < count; i++) {
            int fits = record(columns, i, &name, &length, of, &crc);
            if (fits != 1) {
                Py_XDECREF(out);
                return fits < 0 ? NULL : Py_NewRef(Py_None);
            }
            size += 46 + length;
            if (!round) continue;
            memcpy(p, "PK\1\2", 4);
            memset(p + 4, 0, 42);
            put_half(p + 8, 0x0808);
            put_half(put_word(put_word(put_word(p + 16, crc), (uint32_t)of[2]), (uint32_t)of[2]), (uint32_t)length);
            p = put_word(p + 42, (uint32_t)of[0]);
            memcpy(p, name, (size_t)length);
            p += length;
        }
        if (!round) {
            if ((out = PyBytes_FromStringAndSize(NULL, size)) == NULL) return NULL;
            p = PyBytes_AS_STRING(out);
        }
    }
    return out;
}

/* ---- texts behind their lengths ------------------------------------------------------------------------------------------------ */

/* past(raw, at, count, big): where `count` texts end, each behind its length in 64 bits, of which the first is at `at`. None where one of
 * the lengths is not there whole, or the last text ends outside */
static PyObject *py_past(PyObject *self, PyObject *args)
{
    Py_buffer raw;
    Py_ssize_t at, count;
    int big;
    if (!PyArg_ParseTuple(args, "y*nnp", &raw, &at, &count, &big)) return NULL;
    Bytes base = raw.buf;
    uint64_t place = at < 0 ? UINT64_MAX : (uint64_t)at, size = (uint64_t)raw.len;
    for (; count > 0; count--) {
        if (place > size || size - place < 8) break;
        Bytes p = base + place;
        uint64_t low = u32of(p), high = u32of(p + 4), n = low | high << 32;
        if (big) {
            n = (n & 0x00ff00ff00ff00ffu) << 8 | (n >> 8 & 0x00ff00ff00ff00ffu);
            n = (n & 0x0000ffff0000ffffu) << 16 | (n >> 16 & 0x0000ffff0000ffffu);
            n = n << 32 | n >> 32;
        }
        place += 8;
        if (n > size - place) break;
        place += n;
    }
    PyBuffer_Release(&raw);
    if (count > 0 || place > size) Py_RETURN_NONE;
    return PyLong_FromUnsignedLongLong(place);
}

#define FORM 3 /* counted up where a function is new, takes other arguments or gives other things, here and in columns.py */

static PyMethodDef METHODS[] = {
    {"tensors", py_tensors, METH_VARARGS, NULL}, {"central", py_central, METH_VARARGS, NULL}, {"locals", py_locals, METH_VARARGS, NULL},
    {"entry", py_entry, METH_VARARGS, NULL}, {"says", py_says, METH_VARARGS, NULL}, {"block", py_block, METH_VARARGS, NULL},
    {"entries", py_entries, METH_VARARGS, NULL}, {"weave", py_weave, METH_VARARGS, NULL},
    {"build", py_build, METH_VARARGS, NULL}, {"scatter", py_scatter, METH_VARARGS, NULL},
    {"protos", py_protos, METH_VARARGS, NULL}, {"past", py_past, METH_VARARGS, NULL},
    {"place", py_place, METH_VARARGS, NULL}, {"tails", py_tails, METH_VARARGS, NULL}, {"directory", py_directory, METH_VARARGS, NULL},
    {"sorts", py_sorts, METH_VARARGS, NULL}, {"pluck", py_pluck, METH_VARARGS, NULL}, {"tuples", py_tuples, METH_VARARGS, NULL},
    {"patterns", py_patterns, METH_VARARGS, NULL}, {"layered", py_layered, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_columns", "Runs of like entries in headers.", -1, METHODS};

PyMODINIT_FUNC PyInit__columns(void)
{
    PyObject *text = PyUnicode_FromString("names");
    if (text == NULL) return NULL;
    seed = (size_t)PyObject_Hash(text);
    Py_DECREF(text);
    PyObject *made = PyModule_Create(&MODULE);
    if (made != NULL && PyModule_AddIntConstant(made, "FORM", FORM) < 0) Py_CLEAR(made);
    return made;
}
