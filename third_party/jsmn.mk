# jsmn: one header, from Debian's libjsmn-dev.

JSMN := $(CACHE)/jsmn

$(JSMN)/jsmn.h: third_party/pins third_party/fetch
	$(Q)third_party/fetch libjsmn-dev_1.1.0-2_all.deb $(CACHE)
	$(Q)rm -rf $(JSMN) && mkdir -p $(JSMN)
	$(Q)dpkg-deb --fsys-tarfile $(CACHE)/libjsmn-dev_1.1.0-2_all.deb | tar -C $(JSMN) --strip-components=3 -x ./usr/include
	$(Q)touch $@
